//! What the pages say of this repository is true: links, names of tests, and the map from attacks to tests.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of this repository that the pages for users link to.
#[test]
fn links_lead_somewhere() {
    let top = top();
    let mut pages = vec![top.join("README.md"), top.join("keys-example/README.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(top.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = page.parent().unwrap().join(file);
            assert!(target.exists(), "{} links to {file}, which is not there", page.display());
        }
    }
}

/// `path.rs::name` in the architecture page is a test function of that file.
#[test]
fn the_architecture_page_names_tests_that_exist() {
    let page = fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let named: Vec<(&str, &str)> = page.split('`').filter_map(|text| text.split_once(".rs::")).collect();
    assert!(named.len() > 20, "{named:?}");
    for (file, name) in named {
        let path = top().join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {name}(")), "{file}.rs has no {name}");
    }
}

/// "Who may use whom", of the daemon's modules: no more, no fewer.
#[test]
fn the_architecture_page_says_which_modules_of_the_daemon_use_which() {
    let page = fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let (_, list) = page.split_once("\nserver:").unwrap();
    let (list, _) = list.split_once("of the client:").unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        // What stands in parentheses is for people.
        let plain = text.split('(').map(|part| part.rsplit_once(')').map_or(part, |(_, rest)| rest));
        plain.collect::<String>().split(',').map(|name| name.trim().to_owned()).collect()
    };
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (users, used) in list.lines().filter_map(|line| line.split_once(" -> ")) {
        let used = if used == "core and the client only" { BTreeSet::new() } else { names(used) };
        for user in names(users) {
            said.entry(user).or_default().extend(used.clone());
        }
    }
    let source = top().join("server/src");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).unwrap().to_str().unwrap();
        let module = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if path.ends_with("tests.rs") || path.contains("tests/") || ["lib", "main"].contains(&module.as_str())
        {
            continue;
        }
        let mut used = used_modules(&fs::read_to_string(&file).unwrap());
        used.remove(&module);
        found.entry(module).or_default().extend(used);
    }
    assert_eq!(said, found);
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The first words after `crate::` outside of comments and of the tests at the foot.
fn used_modules(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    used.insert(word(&list[start..at]));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    used.remove("");
    used
}

/// The page lists every attack once, and for each one the tests whose doc comment starts with its number: no more, no
/// fewer. `PLIMSOLL_WRITE_MAP=1` writes the page's last column.
#[test]
fn the_map_of_attacks_names_their_tests() {
    let path = top().join("docs/security-tests.md");
    let page = fs::read_to_string(&path).unwrap();
    let tests = numbered_tests();
    let mut numbers = Vec::new();
    let mut expected = String::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        match cells[..] {
            [number, what, ..] if is_number(number.trim_start_matches("| ")) => {
                let number = number.trim_start_matches("| ");
                numbers.push(number.to_owned());
                let cell = tests.get(number).map(listed).unwrap_or_default();
                expected.push_str(&format!("| {number} | {what} | {cell} |\n"));
            }
            _ => {
                expected.push_str(line);
                expected.push('\n');
            }
        }
    }
    if env::var_os("PLIMSOLL_WRITE_MAP").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    let client = (1..=63).filter(|n| !matches!(n, 18 | 19)).chain(70..=78).map(|n| format!("T{n:02}"));
    for number in client {
        assert!(tests.contains_key(&number), "no test has the number {number}");
        assert!(numbers.contains(&number), "the page does not list {number}");
    }
    for number in tests.keys() {
        assert!(numbers.contains(number), "tests carry {number}, which the page does not list");
    }
    let mut once = numbers.clone();
    once.sort();
    once.dedup();
    assert_eq!(once, numbers, "the page lists a number twice, or out of order");
    for (line, expected) in page.lines().zip(expected.lines()) {
        assert_eq!(line, expected, "write it anew with PLIMSOLL_WRITE_MAP=1");
    }
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('T').is_some_and(|n| n.len() == 2 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The tests of one number by file, as the page's cell.
fn listed(tests: &BTreeMap<String, Vec<String>>) -> String {
    let files = tests.iter().map(|(file, names)| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("{file}: {}", names.join(", "))
    });
    files.collect::<Vec<_>>().join("; ")
}

/// By number and file: the test functions whose doc comment starts with it, perhaps beside others (`T20, T21: …`).
fn numbered_tests() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut folders = vec![top().join("client"), top().join("server"), top().join("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(top()).unwrap().display().to_string();
                for (numbers, name) in numbered(&fs::read_to_string(&path).unwrap()) {
                    for number in numbers {
                        let tests = found.entry(number).or_default().entry(file.clone()).or_default();
                        tests.push(name.clone());
                    }
                }
            }
        }
    }
    found
}

/// The test functions of one file whose doc comment starts with numbers.
fn numbered(source: &str) -> Vec<(Vec<String>, String)> {
    let mut all = Vec::new();
    let (mut numbers, mut first, mut test) = (Vec::new(), true, false);
    for line in source.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            if first {
                let words = comment.split([' ', ',', ':', '.', ';']).filter(|word| !word.is_empty());
                numbers =
                    words.take_while(|word| is_number(word) || is_promise(word)).map(str::to_owned).collect();
            }
            first = false;
        } else if line.starts_with("#[") || line.starts_with("//") {
            test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
        } else {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            if let (true, Some((name, _))) = (test, name) {
                numbers.retain(|number| is_number(number));
                if !numbers.is_empty() {
                    all.push((std::mem::take(&mut numbers), name.to_owned()));
                }
            }
            (numbers, first, test) = (Vec::new(), true, false);
        }
    }
    all
}

fn is_promise(word: &str) -> bool {
    word.len() == 2 && word.starts_with('P') && word.as_bytes()[1].is_ascii_digit()
}

#[test]
fn only_tests_that_start_with_a_number_count() {
    let source = "/// T01, T02: a\n#[test]\nfn one() {\n/// a T03\n#[test]\nfn two() {\n/// T04\nfn three() {\n\
                  /// P1, T05. b\n/// T06\n#[tokio::test(start_paused = true)]\nasync fn four() {\n#[test]\nfn five() {";
    let numbers = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        numbered(source),
        [(numbers(&["T01", "T02"]), "one".to_owned()), (numbers(&["T05"]), "four".to_owned())]
    );
}
