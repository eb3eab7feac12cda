//! What each peer may use up: connections, submissions at a time, room for their bodies, pages of exports, and, above all,
//! failures.
//!
//! A peer is an IPv4 address or the /64 of an IPv6 one, since that is what one customer has. Behind a reverse proxy all are
//! one peer (docs/operations.md). Time is an argument.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::Extensions;
use plimsoll::publish::api::{Refusal, RefusalCode, RefusalReason};
use tokio::{sync::Semaphore, time::Instant};

use super::failure::Failure;

/// Connections of one peer, of the 1024 in all.
const CONNECTIONS: usize = 256;
/// Submissions of one peer that are worked on at a time, of the 32 in all.
const SUBMISSIONS: usize = 16;
/// What their bodies may hold together, KiB: two of the longest.
const BODIES_KIB: usize = 48 * 1024;
/// Peers that are known at a time. Those beyond share one account.
const MAX_PEERS: usize = 4096;

/// Failed submissions: 60 at once, then one a second.
const FAILURE: Duration = Duration::from_secs(1);
const FAILURES: Duration = Duration::from_secs(60);
/// Work that came to nothing: five seconds of it at once, then a quarter of one processor.
const WORK_SHARE: u32 = 4;
const WORK: Duration = Duration::from_secs(20);
/// Nobody is told to wait for longer than this beyond what it takes to be let in once.
const LONGEST: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u8; 8]),
    /// Those that there is no room to tell apart.
    Others,
}

impl Peer {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The connections that are open, for each peer.
#[derive(Debug, Default)]
pub(super) struct Doors {
    open: Mutex<BTreeMap<Peer, usize>>,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Door {
    doors: Arc<Doors>,
    peer: Peer,
}

impl Doors {
    /// None if the peer has enough of them.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer) -> Option<Door> {
        let mut open = unpoisoned(&self.open);
        let count = open.entry(peer).or_default();
        if *count >= CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Door { doors: self.clone(), peer })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut open = unpoisoned(&self.doors.open);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// The accounts of all peers that have something to account for. Bounded.
#[derive(Debug, Default)]
pub(super) struct Peers {
    accounts: Mutex<BTreeMap<Peer, Arc<Account>>>,
}

/// What one peer uses up.
#[derive(Debug)]
pub(super) struct Account {
    /// Turns for submissions.
    pub(super) submissions: Semaphore,
    /// The turn to parse and verify.
    pub(super) parser: Semaphore,
    /// Room for bodies, KiB.
    pub(super) bodies: Semaphore,
    /// The turn to wait for a page of an export.
    pub(super) exports: Semaphore,
    debts: Mutex<Debts>,
}

/// Until when what failed will be forgotten, for each way to count it: a leaking bucket each.
#[derive(Debug, Clone, Copy)]
struct Debts {
    failures: Instant,
    work: Instant,
}

impl Peers {
    /// The account of the peer that a request came from, at `now`. All whose connection does not tell share one.
    pub(super) fn account_of(&self, extensions: &Extensions, now: Instant) -> Arc<Account> {
        self.account(extensions.get().copied().unwrap_or(Peer::Others), now)
    }

    /// The account of `peer` at `now`.
    pub(super) fn account(&self, peer: Peer, now: Instant) -> Arc<Account> {
        let mut accounts = unpoisoned(&self.accounts);
        if let Some(account) = accounts.get(&peer) {
            return account.clone();
        }
        if accounts.len() >= MAX_PEERS {
            // One that is in use, or owes something, is kept.
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || account.owes(now));
        }
        let peer = if accounts.len() >= MAX_PEERS { Peer::Others } else { peer };
        accounts.entry(peer).or_insert_with(|| Arc::new(Account::new(now))).clone()
    }
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            submissions: Semaphore::new(SUBMISSIONS),
            parser: Semaphore::new(1),
            bodies: Semaphore::new(BODIES_KIB),
            exports: Semaphore::new(1),
            debts: Mutex::new(Debts { failures: now, work: now }),
        }
    }

    /// Says whether the peer may submit something at `now`.
    ///
    /// # Errors
    /// 429, with the time after which it may.
    pub(super) fn check(&self, now: Instant) -> Result<(), Failure> {
        let debts = *unpoisoned(&self.debts);
        let over = |until: Instant, most: Duration| until.saturating_duration_since(now).saturating_sub(most);
        let wait = over(debts.failures, FAILURES - FAILURE).max(over(debts.work, WORK));
        if wait.is_zero() {
            return Ok(());
        }
        let who = "too many submissions from this address were refused";
        Err(Refusal::rate_limited(RefusalReason::Peer, who, wait).into())
    }

    /// Counts a submission that ended in `failure`, unless that is nobody's fault: who lost a race, or came too early, did
    /// nothing wrong.
    pub(super) fn charge(&self, failure: &Failure) {
        if failure.refusal.code != RefusalCode::Conflict && !failure.refusal.is_for_now() {
            self.failed(Instant::now());
        }
    }

    /// A submission failed at `now`.
    pub(super) fn failed(&self, now: Instant) {
        let mut debts = unpoisoned(&self.debts);
        debts.failures = owing(debts.failures, now, FAILURE, FAILURES);
    }

    /// `work` of a processor's time was spent, by `now`, on something that changed nothing.
    pub(super) fn spent(&self, work: Duration, now: Instant) {
        let mut debts = unpoisoned(&self.debts);
        debts.work = owing(debts.work, now, work * WORK_SHARE, WORK);
    }

    fn owes(&self, now: Instant) -> bool {
        let debts = *unpoisoned(&self.debts);
        debts.failures > now || debts.work > now
    }
}

fn owing(until: Instant, now: Instant, more: Duration, most: Duration) -> Instant {
    (until.max(now) + more).min(now + most + LONGEST)
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks leaves them whole at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::of(text.parse().unwrap())
    }

    fn wait(account: &Account, now: Instant) -> Option<u64> {
        account.check(now).err().map(|failure| {
            assert_eq!(failure.status, 429);
            assert_eq!(failure.refusal.reason, Some(RefusalReason::Peer));
            failure.refusal.retry_after.unwrap()
        })
    }

    #[test]
    fn one_customer_is_one_peer() {
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
    }

    #[test]
    fn failures_are_counted_and_forgotten_one_a_second() {
        let now = Instant::now();
        let account = Account::new(now);
        for n in 0..60 {
            assert_eq!(wait(&account, now), None, "{n}");
            account.failed(now);
        }
        assert_eq!(wait(&account, now), Some(1));
        assert_eq!(wait(&account, now + FAILURE), None);
        // Those that were on their way count, too, but nobody is kept out for long.
        for _ in 0..10_000 {
            account.failed(now);
        }
        assert_eq!(wait(&account, now), Some(61));
        assert_eq!(wait(&account, now + Duration::from_secs(61)), None);
    }

    #[test]
    fn work_for_nothing_is_counted_whatever_the_answer_was() {
        let now = Instant::now();
        let account = Account::new(now);
        account.spent(Duration::from_secs(5), now);
        assert_eq!(wait(&account, now), None);
        account.spent(Duration::from_millis(500), now);
        assert_eq!(wait(&account, now), Some(2));
        assert_eq!(wait(&account, now + Duration::from_secs(2)), None);
    }

    #[test]
    fn there_are_never_more_accounts_than_there_is_room_for() {
        let (peers, now) = (Peers::default(), Instant::now());
        let known = |peers: &Peers| unpoisoned(&peers.accounts).len();
        let address = |n: u32| Peer::of(Ipv4Addr::from(n).into());
        for n in 0..10_000 {
            peers.account(address(n), now);
            assert!(known(&peers) <= MAX_PEERS);
        }
        // Those that owe something are not forgotten to make room; the next ones share an account.
        for n in 0..10_000 {
            peers.account(address(n), now).failed(now);
        }
        assert!(known(&peers) <= MAX_PEERS + 1);
        let (one, other) = (peers.account(address(20_000), now), peers.account(address(20_001), now));
        assert!(Arc::ptr_eq(&one, &other));
        let later = now + FAILURES + LONGEST;
        assert!(!Arc::ptr_eq(&peers.account(address(1), later), &peers.account(address(2), later)));
    }

    #[test]
    fn a_peer_has_a_share_of_the_connections() {
        let doors = Arc::new(Doors::default());
        let mut open: Vec<Door> = (0..CONNECTIONS).filter_map(|_| doors.enter(peer("192.0.2.1"))).collect();
        assert_eq!(open.len(), CONNECTIONS);
        assert!(doors.enter(peer("192.0.2.1")).is_none());
        assert!(doors.enter(peer("192.0.2.2")).is_some());
        open.pop();
        let again = doors.enter(peer("192.0.2.1"));
        assert!(again.is_some());
        drop((open, again));
        assert!(unpoisoned(&doors.open).is_empty());
    }
}
