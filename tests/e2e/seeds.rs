//! The committed seeds of the fuzz targets, replayed: properties hold, and each is taken or refused as its name says.

#![allow(clippy::unwrap_used)]
#![expect(clippy::print_stderr, reason = "the seed that makes a property panic is the last one shown")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use plimsoll_tests::fuzzing::{TARGETS, Target};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    let paths = entries(&Path::new(FUZZ).join(folder));
    paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// T56: no seed panics, and `yes-…` is taken, `no-…` refused.
#[test]
fn every_seed_is_taken_or_refused_as_its_name_says() {
    let mut wrong = Vec::new();
    for (target, function) in TARGETS {
        let mut said = [0, 0];
        for path in entries(&Path::new(FUZZ).join("seeds").join(target)) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let expected = name.starts_with("yes-");
            assert!(expected || name.starts_with("no-"), "{}", path.display());
            eprintln!("{}", path.display());
            let taken = function(&fs::read(&path).unwrap());
            said[usize::from(taken)] += 1;
            if taken != expected {
                wrong.push(path);
            }
        }
        assert!(said.iter().all(|count| *count > 0), "{target}: seeds of one kind only");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn functions_targets_and_folders_of_seeds_are_the_same() {
    let functions: BTreeSet<String> = TARGETS.iter().map(|(name, _): &Target| (*name).to_owned()).collect();
    assert_eq!(functions, names("fuzz_targets"));
    assert_eq!(functions, names("seeds"));
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    for name in &functions {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")));
        let target = fs::read_to_string(Path::new(FUZZ).join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("fuzzing::{name}(bytes);")), "{name}");
    }
}
