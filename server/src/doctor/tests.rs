//! What is said of what.

use super::*;

fn at(days: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::days(days)
}

#[test]
fn every_expired_role_is_told_and_offline_ones_before() {
    let lives =
        |lives: &[(&str, i64)]| lives.iter().map(|(role, days)| ((*role).to_owned(), at(*days))).collect();
    let found = |of: &[(&str, i64)]| -> Vec<(Level, String)> {
        expiries("acme", &lives(of), at(0)).into_iter().map(|f| (f.level, f.found)).collect()
    };
    let well = found(&[("root", 300), ("snapshot", 6), ("targets", 300), ("timestamp", 1)]);
    assert_eq!(well.len(), 1);
    assert_eq!(well[0].0, Level::Ok);
    assert!(well[0].1.contains("the first will be timestamp"), "{well:?}");
    let ill = found(&[("root", 13), ("snapshot", 6), ("targets", 0), ("targets--a", -3), ("timestamp", 1)]);
    let levels: Vec<Level> = ill.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::Warning, Level::Wrong, Level::Wrong]);
    assert!(
        ill[0].1.starts_with("root expires at") && ill[2].1.starts_with("targets--a expired at"),
        "{ill:?}"
    );
}

#[test]
fn whatever_is_not_well_says_what_to_do() {
    for finding in expiries("acme", &BTreeMap::from([("root".to_owned(), at(-1))]), at(0)) {
        assert_eq!(finding.trust.as_deref(), Some("acme"));
        assert!(finding.next.is_some_and(|next| next.contains("ceremony edit --extend")));
    }
}
