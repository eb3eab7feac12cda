//! The child process in which tough judges generated repositories: see `plimsoll_tests::differential`.

fn main() {
    plimsoll_tests::differential::serve_tough();
}
