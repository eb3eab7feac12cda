//! Generated repositories, judged by our client, python-tuf's and tough.

#![expect(clippy::print_stdout, reason = "what came of the long run")]

use std::{collections::BTreeSet, fs, path::Path};

use plimsoll_tests::differential::{Differential, Tally, classes};

/// `PLIMSOLL_DIFFERENTIAL_REPOSITORIES=20000` for the long run; `PLIMSOLL_DIFFERENTIAL_SEED` for other repositories, and
/// `PLIMSOLL_DIFFERENTIAL_FIRST` for the number of the first one, to see one again.
#[test]
fn our_client_python_tuf_and_tough_agree_or_we_know_why() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed = number("PLIMSOLL_DIFFERENTIAL_SEED", 1);
    let first = number("PLIMSOLL_DIFFERENTIAL_FIRST", 0);
    let count = number("PLIMSOLL_DIFFERENTIAL_REPOSITORIES", 500);
    let keep = Path::new(env!("CARGO_TARGET_TMPDIR")).join("differential");
    let mut differential = Differential::new(Path::new(env!("CARGO_BIN_EXE_differential-tough")), &keep);
    let mut tally = Tally::default();
    for index in first..first + count {
        differential.check(seed, index, &mut tally);
    }
    for words in &tally.unexplained {
        println!("{words}\n");
    }
    for ((client, class), times) in &tally.explained {
        println!("{times:>8}  {client}: {class}");
    }
    let Tally { repositories, updates, accepted, names, found, unexplained, .. } = tally;
    println!(
        "{repositories} repositories, {updates} updates compared ({accepted} accepted by ours), {names} names ({found} found)"
    );
    assert!(unexplained.is_empty(), "{} divergences that nothing explains", unexplained.len());
    // The comparison is of something: most updates are accepted, many are not, and names are found and not found.
    if count >= 500 {
        assert!(accepted * 2 > updates && accepted * 20 < updates * 19, "{accepted} of {updates} accepted");
        assert!(found * 4 > names && found * 4 < names * 3, "{found} of {names} found");
    }
}

/// The page has a row for each class, and no other.
#[test]
fn the_page_of_divergences_has_every_class_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/divergences.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(client, _)| !matches!(*client, "client"))
        .map(|(client, rest)| (client, rest.split(" | ").next().unwrap()))
        .collect();
    let written: BTreeSet<(&str, &str)> = rows.iter().copied().collect();
    assert_eq!(written.len(), rows.len(), "a class has two rows");
    let known: Vec<_> = classes().map(|class| (class.client().name(), class.name())).collect();
    assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), written);
    assert_eq!(known.len(), rows.len(), "a class stands twice in the code");
}
