//! `plimsolld`; see `plimsoll_server::cli`.

fn main() -> std::process::ExitCode {
    plimsoll_server::cli::main()
}
