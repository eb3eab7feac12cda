//! `plimsolld serve`.

use std::net::SocketAddr;

use clap::Args;

use super::{Log, Source};
use crate::{
    config::{Overrides, TrustArgument},
    service,
};

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) source: Source,
    /// Where to listen, as 127.0.0.1:8480; port 0 is any free one
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Serve this trust repository, at HOST/REPO or on the embedded registry; may be given several times
    ///
    /// If given, exactly these are served; what the configuration says of one with the same name still holds.
    #[arg(long = "trust", value_name = "NAME[=HOST/REPO]")]
    pub(super) trusts: Vec<TrustArgument>,
}

/// Runs the daemon until a signal ends it.
pub(super) async fn serve(arguments: Serve, log: Log) -> anyhow::Result<()> {
    let Serve { source, listen, trusts } = arguments;
    let overrides = Overrides { data: source.data, listen, log: log.given, trusts };
    service::run(source.config, overrides, &log.filter).await
}
