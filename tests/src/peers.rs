//! The Python peers, run from `tests/peers` in the virtual environment that `tests/run.sh` makes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use data_encoding::BASE64;
use serde_json::Value;

use crate::process::{self, Run};

/// Runs `tests/peers/SCRIPT` with `arguments` and `input` as its standard input.
///
/// # Panics
/// If the virtual environment has not been made.
pub fn run(script: &str, arguments: &[&str], input: &[u8]) -> Run {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = tests.join("../.venv/bin/python");
    assert!(python.exists(), "{} is missing: run `bash tests/run.sh --install` first", python.display());
    let mut command = Command::new(python);
    // Isolated: no PYTHON* variables, no user's packages.
    command.arg("-I").arg(tests.join("peers").join(script)).args(arguments);
    process::run(&mut command, input)
}

/// Updates with python-tuf's stock client, starting from the root in `trusted_root`, and asks for `target`.
///
/// The URLs end with a slash. With code 0, `stdout` is one JSON object: `root`, `timestamp`, `snapshot`, `targets`
/// (versions) and `target` (`null`, or `length` and `sha256`). With code 1, `stderr` is one line with the name of the
/// client's exception and its message.
///
/// # Panics
/// As [`run`].
pub fn ngclient(metadata_url: &str, targets_url: &str, trusted_root: &Path, target: &str) -> Run {
    let root = trusted_root.to_str().expect("tests use paths that are text");
    run("ngclient.py", &[metadata_url, targets_url, root, target], b"")
}

/// Has python-tuf write a small repository into `directory`, its roles expiring in `days` days.
///
/// Files: `1.root.json`, `1.targets.json`, `1.snapshot.json`, `timestamp.json`; one target, `hello.txt`, with the content
/// `hello`.
///
/// # Panics
/// As [`run`], or if it cannot be written.
pub fn make_repository(directory: &Path, days: i32) {
    let path = directory.to_str().expect("tests use paths that are text");
    run("make_repository.py", &[path, &days.to_string()], b"").ok();
}

/// Opens an encrypted private key file with Python's cryptography; `stdout` is its public key, PEM.
///
/// `passphrase` is a file whose first line is the passphrase.
///
/// # Panics
/// As [`run`].
pub fn open_key(key: &Path, passphrase: &Path) -> Run {
    let text = |path: &Path| path.to_str().expect("tests use paths that are text").to_owned();
    run("open_key.py", &[&text(key), &text(passphrase)], b"")
}

/// For each pattern and its names: whether python-tuf lets a delegation with that one pattern speak about each name.
///
/// # Panics
/// As [`run`], or if the script does not answer for every name.
pub fn delegated_paths(questions: &[(String, Vec<String>)]) -> Vec<Vec<bool>> {
    let lines: Vec<String> =
        questions.iter().map(|question| serde_json::to_string(question).expect("text is JSON")).collect();
    let answer = run("patterns.py", &[], lines.join("\n").as_bytes()).ok();
    let verdicts: Vec<Vec<bool>> = answer
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("the script answers in JSON"))
        .collect();
    let asked = questions.iter().map(|(_, names)| names.len());
    assert!(verdicts.iter().map(Vec::len).eq(asked), "one answer for each name");
    verdicts
}

/// Whether securesystemslib verifies each case of a file as `signatures.py make` prints it.
///
/// # Panics
/// As [`run`], or if the script does not answer with one verdict a line.
pub fn verifies(cases: &str) -> Vec<bool> {
    let answer = run("signatures.py", &["check"], cases.as_bytes()).ok();
    answer.stdout.lines().map(|line| line.parse().expect("the script answers with true or false")).collect()
}

/// What Prometheus' own parser of its text format reads in `text`: families, each an object with `name`, `type`, `help` and
/// `samples`, which are arrays of name, labels and value.
///
/// # Panics
/// As [`run`], or if the parser refuses the text.
pub fn prometheus(text: &str) -> Vec<Value> {
    let answer = run("prometheus.py", &[], text.as_bytes()).ok();
    let families =
        answer.stdout.lines().map(|line| serde_json::from_str(line).expect("the script answers in JSON"));
    families.collect()
}

/// The canonical form of each document, by securesystemslib; `Err` with its words where it refuses one.
///
/// Each document must be JSON on a single line.
///
/// # Panics
/// As [`run`], or if the script does not answer every line.
pub fn canonical(documents: &[&str]) -> Vec<Result<Vec<u8>, String>> {
    assert!(documents.iter().all(|document| !document.contains('\n')), "one document is one line");
    let answer = run("canonical.py", &[], documents.join("\n").as_bytes()).ok();
    let results: Vec<_> = answer.stdout.lines().map(canonical_line).collect();
    assert_eq!(results.len(), documents.len(), "one answer for each document");
    results
}

fn canonical_line(line: &str) -> Result<Vec<u8>, String> {
    let value: Value = serde_json::from_str(line).expect("the script answers in JSON");
    match value["canonical"].as_str() {
        Some(encoded) => Ok(BASE64.decode(encoded.as_bytes()).expect("the script answers in base64")),
        None => Err(value["error"].as_str().unwrap_or_default().to_owned()),
    }
}

/// For each document: nothing if Python's `jsonschema` finds it valid by the schema in the file `schema`, else what is
/// wrong and where.
///
/// # Panics
/// As [`run`], or if the file is no schema.
pub fn schema_faults(schema: &Path, documents: &[Value]) -> Vec<Option<String>> {
    let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
    let schema = schema.to_str().expect("tests use paths that are text");
    let answer = run("schema.py", &[schema], lines.join("\n").as_bytes()).ok();
    let faults: Vec<Option<String>> =
        answer.stdout.lines().map(|line| (line != "true").then(|| line.to_owned())).collect();
    assert_eq!(faults.len(), documents.len(), "one answer for each document");
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn securesystemslib_sorts_keys_and_refuses_floats() {
        let answers = canonical(&[r#"{"b": 1, "a": "é\n"}"#, "[1.5]"]);
        assert_eq!(answers[0].as_deref(), Ok("{\"a\":\"é\n\",\"b\":1}".as_bytes()));
        assert!(answers[1].is_err());
    }

    #[test]
    fn cryptography_opens_what_openssl_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let (key, passphrase) = (directory.path().join("key.pem"), directory.path().join("passphrase"));
        std::fs::write(&passphrase, "correct horse\n").unwrap();
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", "ed25519", "-aes256", "-pass"]);
        command.arg(format!("file:{}", passphrase.display())).arg("-out").arg(&key);
        process::run(&mut command, b"").ok();
        assert!(open_key(&key, &passphrase).ok().stdout.starts_with("-----BEGIN PUBLIC KEY-----"));
        std::fs::write(&passphrase, "wrong\n").unwrap();
        open_key(&key, &passphrase).expect_code(1);
    }
}
