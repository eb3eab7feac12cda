//! A registry in the middle: passes everything on to a real one, keeps a log, and lies when told to.
//!
//! ```no_run
//! use plimsoll_tests::{docker_registry::Registry, middle::{Effect, Middle, Rule}};
//!
//! let registry = Registry::open();
//! let middle = Middle::start(&registry.address());
//! let timestamp = Rule::new("GET HEAD", "/acme/trust/manifests/latest");
//! middle.set(timestamp.clone(), Effect::Freeze);
//! middle.set(timestamp.times(1), Effect::Status(503)); // the newest rule first: one 503, then the frozen manifest
//! ```

mod serve;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::background::Background;

/// How long [`Middle::wait_for`] waits.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// A running proxy over plain HTTP on loopback; ended when dropped.
///
/// It leaves the `Host` header as it came, so the registry's own redirects and upload locations lead back to it.
#[derive(Debug)]
pub struct Middle {
    address: SocketAddr,
    shared: Arc<Shared>,
    _background: Background,
}

/// Which requests an [`Effect`] is for.
#[derive(Debug, Clone)]
pub struct Rule {
    methods: String,
    path: String,
    left: Option<usize>,
}

/// What is done with a request.
#[derive(Clone)]
pub enum Effect {
    /// Pass it on: an exception from an older rule.
    Pass,
    /// An empty answer with this status.
    Status(u16),
    /// This answer, or 304 if the request is conditional and its `If-None-Match` is the answer's `ETag`.
    Answer(Answer),
    /// The latest 200 that the registry gave to this very request (method and path) before; where there was none,
    /// the next one is kept. Conditional as [`Effect::Answer`].
    Freeze,
    /// The registry's answer, changed by this function; `Content-Length` follows the new body.
    Edit(Arc<dyn Fn(&mut Answer) + Send + Sync>),
    /// The registry's answer with one bit of the body's last byte turned over.
    WrongBytes,
    /// The registry's answer, its `Content-Length` true, its body cut after this many bytes, the connection closed.
    Truncate(usize),
    /// The registry's status and headers, without a length, and a body that goes on for 4 GiB.
    Endless,
    /// The registry's answer, a byte of its body every so often.
    Drip(Duration),
    /// No answer for two minutes, then a reset.
    Stall,
    /// The connection reset; the registry never sees the request.
    Reset,
    /// The request passed on and done, then the connection reset instead of an answer.
    ResetAfter,
}

/// An HTTP answer, made up or recorded.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers; `Content-Length` is added when it is sent, if there is none.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A request that came, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The request's method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// Whether it had an `If-None-Match`.
    pub conditional: bool,
    /// The size of its body, bytes.
    pub received: u64,
    /// The status answered; 0 if the connection was reset or the answer never came.
    pub status: u16,
    /// The size of the answer's body as it was meant to be sent, bytes; 0 for [`Effect::Endless`].
    pub sent: u64,
}

impl Middle {
    /// Starts a proxy for the registry at `upstream` (`127.0.0.1:PORT`, plain HTTP).
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn start(upstream: &str) -> Self {
        let shared = Arc::new(Shared::new(upstream));
        let (background, address) =
            Background::serve(|listener, _| serve::serve(listener, Arc::clone(&shared)));
        Self { address, shared, _background: background }
    }

    /// Its address, `127.0.0.1:PORT`: the host part of a reference.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, does `effect` to what `rule` matches. The newest rule that matches counts.
    pub fn set(&self, rule: Rule, effect: Effect) {
        self.shared.state().rules.push((rule, effect));
    }

    /// Forgets all rules; the log and what was recorded stay.
    pub fn clear(&self) {
        self.shared.state().rules.clear();
    }

    /// All requests so far, in the order they were answered.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.state().log.clone()
    }

    /// All requests so far, taken out of the log.
    pub fn take_log(&self) -> Vec<Entry> {
        std::mem::take(&mut self.shared.state().log)
    }

    /// The different 200 answers that the registry gave to GETs of `path` (the whole of it, as `/v2/…`), oldest first.
    pub fn recorded(&self, path: &str) -> Vec<Answer> {
        let key = (Method::GET, path.to_owned());
        self.shared.state().recorded.get(&key).cloned().unwrap_or_default()
    }

    /// Waits until the log has an entry that `wanted` likes, and returns it.
    ///
    /// # Panics
    /// If there is none within 30 s.
    pub fn wait_for(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut state = self.shared.state();
        loop {
            if let Some(entry) = state.log.iter().find(|entry| wanted(entry)) {
                return entry.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = state.log.clone();
                drop(state);
                panic!("no such request came; the log is {log:#?}");
            }
            state = self.shared.logged.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
    }
}

impl Rule {
    /// Matches requests whose method is in `methods` (separated by spaces, `*` for any) and whose path and query
    /// contain `path`.
    pub fn new(methods: &str, path: &str) -> Self {
        Self { methods: methods.to_owned(), path: path.to_owned(), left: None }
    }

    /// Itself, for the next `count` requests that it matches only.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        let method_fits = self.methods.split(' ').any(|wanted| wanted == "*" || wanted == method.as_str());
        method_fits && self.left != Some(0) && path.contains(&self.path)
    }
}

impl Effect {
    /// [`Effect::Edit`] by `change`.
    pub fn edit(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Answer(answer) => return write!(f, "Answer({answer:?})"),
            Self::Status(status) => return write!(f, "Status({status})"),
            Self::Truncate(length) => return write!(f, "Truncate({length})"),
            Self::Drip(every) => return write!(f, "Drip({every:?})"),
            Self::Pass => "Pass",
            Self::Freeze => "Freeze",
            Self::Edit(_) => "Edit",
            Self::WrongBytes => "WrongBytes",
            Self::Endless => "Endless",
            Self::Stall => "Stall",
            Self::Reset => "Reset",
            Self::ResetAfter => "ResetAfter",
        };
        f.write_str(name)
    }
}

impl Answer {
    /// An empty answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Itself, with a header set.
    ///
    /// # Panics
    /// If name or value are not allowed in HTTP.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("the name of a header");
        self.headers.insert(name, HeaderValue::from_str(value).expect("the value of a header"));
        self
    }

    /// Itself, with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
    logged: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<(Rule, Effect)>,
    log: Vec<Entry>,
    recorded: HashMap<(Method, String), Vec<Answer>>,
}

impl Shared {
    fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned(), state: Mutex::default(), logged: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The effect of the newest rule that matches, used up once.
    fn effect(&self, method: &Method, path: &str) -> Effect {
        let mut state = self.state();
        let Some((rule, effect)) = state.rules.iter_mut().rev().find(|(rule, _)| rule.matches(method, path))
        else {
            return Effect::Pass;
        };
        rule.left = rule.left.map(|left| left - 1);
        effect.clone()
    }

    fn write_log(&self, entry: Entry) {
        self.state().log.push(entry);
        self.logged.notify_all();
    }

    fn record(&self, method: &Method, path: &str, answer: &Answer) {
        if answer.status == 200 && matches!(*method, Method::GET | Method::HEAD) {
            let mut state = self.state();
            let answers = state.recorded.entry((method.clone(), path.to_owned())).or_default();
            // An answer seen before and seen again is the newest now: freezing means the registry's last word.
            answers.retain(|known| {
                known.body != answer.body || known.headers.get("etag") != answer.headers.get("etag")
            });
            answers.push(answer.clone());
        }
    }

    fn last_recorded(&self, method: &Method, path: &str) -> Option<Answer> {
        self.state().recorded.get(&(method.clone(), path.to_owned()))?.last().cloned()
    }
}
