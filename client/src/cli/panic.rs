//! A bug ends the command with one line and exit code 1, not with a page and 101.

use std::{
    io::Write,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use super::output::one_line;
use crate::verify::printable;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs `command` and returns its exit code, or 1 if anything in this process panicked meanwhile, in whatever thread.
///
/// From now on a panic prints one line on standard error.
pub(super) fn contained(command: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(report));
    // What was borrowed is not looked at again.
    let code = panic::catch_unwind(AssertUnwindSafe(command));
    match code {
        Ok(code) if !PANICKED.load(Ordering::SeqCst) => code,
        _ => ExitCode::FAILURE,
    }
}

fn report(panic: &PanicHookInfo<'_>) {
    PANICKED.store(true, Ordering::SeqCst);
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
    let text = format!("this is a bug in plimsoll{}: {text}", place.unwrap_or_default());
    // Not `eprintln!`, which panics where nobody reads.
    let _ = writeln!(std::io::stderr(), "error: {}", printable(&one_line(&text)));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// The test that is also run in a process of its own, since [`contained`] changes the whole process.
    const CHILD: &str = "cli::panic::tests::a_panic_is_one_line_and_exit_code_1";

    fn panics(kind: &str) -> ! {
        let code = contained(|| match kind {
            "thread" => {
                let _ = std::thread::spawn(|| panic!("in a thread")).join();
                ExitCode::SUCCESS
            }
            "long" => panic!("two\nlines of {}", "x\u{1b}[2J".repeat(3)),
            "value" => panic::panic_any(7),
            _ => panic!("an invariant is gone"),
        });
        std::process::exit(i32::from(code == ExitCode::FAILURE))
    }

    fn child(kind: &str, stderr: Stdio) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
            .env("PANIC", kind)
            .env("RUST_BACKTRACE", "full")
            .stderr(stderr)
            .output()
            .unwrap()
    }

    /// T93.
    #[test]
    fn a_panic_is_one_line_and_exit_code_1() {
        if let Ok(kind) = std::env::var("PANIC") {
            panics(&kind);
        }
        for (kind, says) in [
            ("plain", "an invariant is gone"),
            ("thread", "in a thread"),
            ("long", "two; lines of x [2Jx [2Jx [2J"),
            ("value", "no reason given"),
        ] {
            let output = child(kind, Stdio::piped());
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{kind}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{kind}: {stderr}");
            assert!(stderr.starts_with("error: this is a bug in plimsoll ("), "{kind}: {stderr}");
            assert!(stderr.ends_with(&format!("{says}\n")), "{kind}: {stderr}");
        }
    }

    /// T93: with nobody to read the line, the exit code is the same.
    #[test]
    fn a_panic_that_nobody_reads_is_exit_code_1() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(child("plain", writer.into()).status.code(), Some(1));
    }
}
