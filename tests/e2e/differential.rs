//! Generated repositories, judged by our client, python-tuf's and tough.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]
#![expect(clippy::print_stdout, reason = "what came of the long run")]

use std::path::Path;

use plimsoll_tests::differential::{Differential, Tally};

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
        if tally.unexplained.len() > 2000 {
            break;
        }
    }
    println!("{tally:#?}");
    assert!(tally.unexplained.is_empty(), "{} divergences that nothing explains", tally.unexplained.len());
}
