//! What is logged, which may change while the program runs.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    EnvFilter, Registry,
    filter::ParseError,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// What `serve` logs if it is not told.
pub const DEFAULT: &str = "info";

/// How it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter of this process's log.
pub struct Filter(Handle<EnvFilter, Registry>);

impl Filter {
    /// From now on this process logs to standard error what `filter` lets through.
    ///
    /// # Panics
    /// If it logs somewhere already.
    pub fn install(filter: EnvFilter, format: Format) -> Self {
        let (filter, handle) = reload::Layer::new(filter);
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        match format {
            Format::Text => {
                let colour =
                    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
                registry.with(layer.with_target(false).with_ansi(colour)).init();
            }
            Format::Json => registry.with(layer.json()).init(),
        }
        Self(handle)
    }

    /// From now on `filter` decides, an invalid one not.
    pub fn set(&self, filter: &str) {
        let set = parse(filter).map(|filter| self.0.reload(filter));
        // It was parsed when the configuration was read, and the handle lives as long as the process.
        debug_assert!(matches!(set, Ok(Ok(()))), "{filter}");
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// The filter that `text` says; refuses what `EnvFilter` by itself would only ignore.
///
/// # Errors
/// [`ParseError`].
pub fn parse(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(text)
}
