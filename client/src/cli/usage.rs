//! What is wrong with a command line, in one line.

use std::ffi::OsString;

use clap::{Command, error::ErrorKind};

use super::{Failure, Format, Out};

/// Prints why `args`, the program's name first, are no command line of `command`, and what to try, as every fault is told:
/// one line on standard error, and `try:` below it. Returns the exit code, 2. None if `error` is a help or a version, which
/// are results.
pub fn usage_fault(command: &Command, args: &[OsString], error: &clap::Error) -> Option<u8> {
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || error.kind() == help {
        return None;
    }
    let failure =
        Failure::usage(in_words(&error.render().to_string())).next(format!("{} --help", path(command, args)));
    Some(Out::new(Format::Text, false).failure(&failure))
}

/// The message without its usage and its advice, in one line: a list of arguments behind its colon.
fn in_words(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let told =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut text = String::new();
    for line in told {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        match () {
            () if text.is_empty() => {}
            () if text.ends_with(':') => text.push(' '),
            () if line.starts_with('[') => text.push(' '),
            () if line.starts_with("tip: ") => text.push_str("; "),
            () => text.push_str(", "),
        }
        text.push_str(line);
    }
    text
}

/// The subcommand that `args` name, with the program before it.
fn path(command: &Command, args: &[OsString]) -> String {
    let mut path = command.get_name().to_owned();
    let mut at = command;
    for arg in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if arg == "--" {
            break;
        }
        if let Some(inner) = at.find_subcommand(arg) {
            path.push(' ');
            path.push_str(inner.get_name());
            at = inner;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn told(args: &[&str]) -> (String, String) {
        let args: Vec<OsString> = [&["plimsoll"], args].concat().into_iter().map(OsString::from).collect();
        let error = super::super::Cli::command().try_get_matches_from(&args).unwrap_err();
        (in_words(&error.render().to_string()), path(&super::super::Cli::command(), &args))
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_line() {
        for (args, words, command) in [
            (vec!["verify", "--bogus"], "unexpected argument '--bogus' found", "plimsoll verify"),
            (
                vec!["-o", "xml", "trust", "list"],
                "invalid value 'xml' for '--output <OUTPUT>' [possible values: text, json]",
                "plimsoll trust list",
            ),
            (
                vec!["trust", "add", "acme"],
                "the following required arguments were not provided: --root <FILE>, --sha256 <",
                "plimsoll trust add",
            ),
            (
                vec!["polcy"],
                "unrecognized subcommand 'polcy'; tip: a similar subcommand exists: 'policy'",
                "plimsoll",
            ),
            (vec!["policy", "explain", "Up/Case"], "invalid value 'Up/Case' for", "plimsoll policy explain"),
            (vec!["lock", "--", "verify", "--x", "--policy"], "", "plimsoll lock"),
        ] {
            if words.is_empty() {
                let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
                let args = [vec![OsString::from("plimsoll")], args].concat();
                assert_eq!(path(&super::super::Cli::command(), &args), command);
                continue;
            }
            let (text, path) = told(&args);
            assert!(text.starts_with(words), "{text}");
            assert!(!text.contains('\n') && !text.contains("For more") && !text.contains("Usage"), "{text}");
            assert_eq!(path, command, "{text}");
        }
    }
}
