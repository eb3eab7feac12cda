//! `plimsoll`: says which digest a container tag means now, and who vouched for it. See [`plimsoll::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    plimsoll::cli::run(std::env::args_os())
}
