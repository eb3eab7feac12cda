//! Telling systemd how the daemon is doing: the datagrams of sd_notify(3), and the watchdog.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::pipeline::Engine;

/// A service manager takes datagrams at once; one that hangs must not hold up the daemon.
const SEND_TIME: Duration = Duration::from_secs(1);
/// How often the status is looked at, unless the watchdog wants more.
const LOOK: Duration = Duration::from_secs(5);
/// A status line is not longer, characters.
const STATUS: usize = 300;

/// The service manager that started this process, if there is one. Telling it never fails: it is logged, and the daemon
/// goes on.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// What `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID` say; without them, nobody is told. An address that is
    /// neither a path nor abstract (`@NAME`) is logged and left alone.
    pub fn from_env() -> Self {
        Self::new(|name| std::env::var_os(name), process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(to) => Self { to: Some(to), watchdog: watchdog(variable, pid) },
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "cannot tell the service manager anything");
                Self::default()
            }
        }
    }

    /// The daemon serves. Also ends a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins; [`Notifier::ready`] must follow. The time is for `Type=notify-reload`: the manager tells by it
    /// that this is the answer to its signal.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for people, in `systemctl status`.
    pub fn status(&self, text: &str) {
        // A line feed would begin another message.
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS).collect();
        self.send(&format!("STATUS={line}"));
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            let what = message.split('=').next().unwrap_or_default();
            tracing::warn!(%error, what, "cannot tell the service manager");
        }
    }

    /// Tells how `engines` are doing whenever that changes, and feeds the watchdog for as long as none of them hangs
    /// ([`Engine::hangs`]), until it is dropped. Returns at once if nobody listens.
    pub async fn attend(&self, engines: &[Engine]) {
        if self.to.is_none() {
            return;
        }
        // Half of the time, as sd_watchdog_enabled(3) advises, leaves none to be late in; a third does.
        let pause = self.watchdog.map_or(LOOK, |time| (time / 3).min(LOOK));
        let (mut told, mut hung) = (String::new(), false);
        loop {
            let status = status(engines);
            if status != told {
                self.status(&status);
                told = status;
            }
            let now = Instant::now();
            match engines.iter().find_map(|engine| Some((engine, engine.hangs(now)?))) {
                None => {
                    hung = false;
                    if self.watchdog.is_some() {
                        self.send("WATCHDOG=1");
                    }
                }
                Some((engine, why)) if !hung => {
                    hung = true;
                    tracing::error!(trust = engine.name(), "{why}: the watchdog is not fed until it goes on");
                }
                Some(_) => {}
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// In a few words: how many are ready, and what the first that is not says.
fn status(engines: &[Engine]) -> String {
    let healths: Vec<_> = engines.iter().map(|engine| (engine.name(), engine.health())).collect();
    let ready = healths.iter().filter(|(_, health)| health.ready).count();
    let mut text = format!("{ready} of {} trust repositories ready", healths.len());
    if let Some((name, health)) = healths.iter().find(|(_, health)| !health.ready) {
        let alarm = if health.alarm.is_some() { "ALARM: " } else { "" };
        text.push_str(&format!("; {name}: {alarm}{}", health.detail));
    }
    text
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path and not `@NAME`")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIME))?;
    Ok((socket, address))
}

/// How often the manager wants to hear that all is well; none if it does not ask this process.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(pid));
    let time = number("WATCHDOG_USEC").filter(|time| *time > 0 && ours)?;
    Some(Duration::from_micros(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_message_is_one_datagram_at_either_kind_of_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("plimsolld-test-{}", process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstractly = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let abstractly = UnixDatagram::bind_addr(&abstractly).unwrap();
        for (socket, address) in [(by_path, path.display().to_string()), (abstractly, format!("@{name}"))] {
            let notifier = Notifier::new(variables(&[("NOTIFY_SOCKET", &address)]), 1);
            notifier.ready();
            notifier.status("one\nREADY=1");
            notifier.reloading();
            notifier.stopping();
            assert_eq!(receive(&socket), "READY=1");
            assert_eq!(receive(&socket), "STATUS=one READY=1");
            let reloading = receive(&socket);
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{reloading}");
            assert_eq!(receive(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn a_manager_that_is_gone_or_strange_harms_nobody() {
        for address in ["", "relative", "vsock:2:1234", "/no/such/socket"] {
            let notifier = Notifier::new(variables(&[("NOTIFY_SOCKET", address)]), 1);
            notifier.ready();
            notifier.stopping();
        }
        Notifier::new(|_| None, 1).ready();
    }

    #[test]
    fn the_watchdog_is_fed_only_if_it_asks_this_process() {
        let ask = |set: &[(&str, &str)]| watchdog(variables(set), 7);
        assert_eq!(ask(&[("WATCHDOG_USEC", "2000000")]), Some(Duration::from_secs(2)));
        assert_eq!(ask(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "7")]), Some(Duration::from_micros(5)));
        for set in [
            &[][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "x")],
            &[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "8")],
            &[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "x")],
        ] {
            assert_eq!(ask(set), None, "{set:?}");
        }
    }
}
