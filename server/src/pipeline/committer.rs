//! The task that signs: rounds of submissions, and what is due.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use plimsoll::{publish::api::Refusal, verify};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    Request, Shared, Unsigned,
    round::{Outcome, RoundError, Submitted, unavailable},
};
use crate::{
    freshness::LONGEST_CHECK,
    store::{StoreError, SubmissionRecord},
};

/// Submissions that share one round.
const BATCH: usize = 64;
/// How long a round waits for those who published with the last one: not longer than the disk takes to store one.
const GATHER: Duration = Duration::from_millis(2);
/// After a round that failed.
const FAILED: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<SubmissionRecord, Refusal>>;

/// Until the daemon stops. What is in the queue then is dropped, which its senders read as "try again".
pub(super) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let mut stop = shared.stop.subscribe();
    let mut observed = shared.observed.subscribe();
    let mut next = Instant::now();
    // How many publish at a time.
    let mut crowd = 1;
    loop {
        let mut batch = Vec::new();
        shared.committing.sleep(next);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            count = requests.recv_many(&mut batch, BATCH) => if count == 0 { return },
            // The registry was read, or there is an alarm. Its sender lives as long as this task.
            _ = observed.changed() => {}
            () = shared.wake.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
        gather(&mut requests, &mut batch, crowd).await;
        let number = shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let count = batch.len();
        // Who waits when a round ends did not take part in it; who did comes again when it is answered.
        let pause = take(&shared, batch, || crowd = count + requests.len()).await;
        next = Instant::now() + pause;
        shared.ended.send_replace(number);
    }
}

/// Adds submissions to a batch that would just miss its round, until it has `crowd`: who publishes together shares one snapshot,
/// one timestamp and one fsync.
async fn gather(requests: &mut mpsc::Receiver<Request>, batch: &mut Vec<Request>, crowd: usize) {
    let (until, crowd) = (Instant::now() + GATHER, crowd.min(BATCH));
    while (1..crowd).contains(&batch.len()) {
        tokio::select! {
            biased;
            count = requests.recv_many(batch, crowd - batch.len()) => if count == 0 { return },
            () = tokio::time::sleep_until(until) => return,
        }
    }
}

/// Answers `batch` and signs what is due; says how long until something may be due again. Calls `ended` when a round has ended,
/// before its submissions are answered.
async fn take(shared: &Arc<Shared>, batch: Vec<Request>, mut ended: impl FnMut()) -> Duration {
    shared.committing.step();
    if let Some(why) = shared.blocked() {
        for request in batch {
            shared.note_refused(&unavailable(why.clone()));
            let _ = request.answer.send(Err(unavailable(why.clone())));
        }
        return LONGEST_CHECK;
    }
    // A round that panics stored nothing. Each of its submissions is then tried alone, so that one that hits a fault of
    // ours does not take others with it, nor the timestamp that is due.
    let (mut rounds, mut next) = (vec![batch], FAILED);
    while let Some(batch) = rounds.pop() {
        let (submitted, others): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.submitted, (request.answer, request._room))).unzip();
        let submitted = Arc::new(submitted);
        shared.committing.step();
        let round = round(shared, submitted.clone()).await;
        ended();
        match round {
            Some((outcome, pause)) => {
                match &outcome {
                    Err(RoundError::Store(StoreError::Stopped { .. })) => shared.committing.broken(),
                    _ => shared.committing.done(),
                }
                next = pause;
                finish(shared, others.into_iter().map(|(answer, _)| answer), outcome);
            }
            None if submitted.len() > 1 => {
                let again = Arc::unwrap_or_clone(submitted).into_iter().zip(others).rev();
                rounds.extend(
                    again.map(|(submitted, (answer, _room))| vec![Request { submitted, answer, _room }]),
                );
            }
            None => {
                let text = "the daemon failed at this submission; see its log".to_owned();
                for (answer, _) in others {
                    let _ = answer.send(Err(unavailable(text.clone())));
                }
                next = FAILED;
                if submitted.is_empty() {
                    shared.committing.broken();
                    let text = "a round panicked; see the log".to_owned();
                    shared.status().unsigned = Some(Unsigned { text, clock: false });
                } else if !rounds.iter().any(Vec::is_empty) {
                    // What is due is still due, and who sends such things without end must not keep it so.
                    rounds.insert(0, Vec::new());
                }
            }
        }
    }
    next
}

/// One round, and how long until the next may be due. None if it panicked.
async fn round(
    shared: &Arc<Shared>,
    submitted: Arc<Vec<Submitted>>,
) -> Option<(Result<Outcome, RoundError>, Duration)> {
    let working = shared.clone();
    let round = spawn_blocking(move || {
        let began = Instant::now();
        // Until the head was read after it, whatever ends this round: a write that was said to have failed may be there.
        let unread = working.unread.swap(true, Ordering::SeqCst);
        let mut outcome = working.now().and_then(|now| working.setup.round(&submitted, now));
        let same = match &outcome {
            Ok(outcome) => !outcome.signed,
            Err(error) => matches!(error, RoundError::Clock(_)),
        };
        let read = match &outcome {
            // A round after one of which nobody knows has read the store itself.
            Ok(_) if !same || unread => working.note_head(),
            Err(_) if !same || unread => working.read_head(),
            _ => Ok(()),
        };
        working.unread.store(read.is_err(), Ordering::SeqCst);
        outcome = outcome.and_then(|outcome| read.map(|()| outcome));
        working.note_round(began.elapsed(), &outcome);
        let pause = if outcome.is_ok() { working.setup.pause(working.clock.now()) } else { FAILED };
        (outcome, pause)
    });
    round.await.inspect_err(|panic| error!(trust = shared.name, "a round panicked: {panic}")).ok()
}

/// Tells everybody what became of it.
fn finish(shared: &Shared, answers: impl Iterator<Item = Answer>, outcome: Result<Outcome, RoundError>) {
    match outcome {
        Ok(outcome) => {
            if shared.status().unsigned.take().is_some() {
                info!(trust = shared.name, "signing again");
            }
            for report in outcome.reports {
                warn!(trust = shared.name, "{report}");
            }
            for (answer, result) in answers.zip(outcome.answers) {
                match &result {
                    Ok(record) => {
                        info!(trust = shared.name, id = record.id, roles = ?record.roles, "accepted");
                    }
                    Err(refusal) => info!(trust = shared.name, "refused: {}", refusal.message),
                }
                // Who asked may be gone; what was accepted stays accepted.
                let _ = answer.send(result);
            }
        }
        Err(error) => {
            let unsigned =
                Unsigned { text: verify::chain(&error), clock: matches!(error, RoundError::Clock(_)) };
            let text = unsigned.text.clone();
            // First, so that who reads the log finds it in /readyz.
            let before = shared.status().unsigned.replace(unsigned.clone());
            match error {
                RoundError::Store(StoreError::Stopped { .. } | StoreError::Damaged { .. }) => {
                    shared.alarm(format!("{text}; restart the daemon"));
                }
                // Tried again each second: told once.
                RoundError::Clock(_) if before.as_ref().is_some_and(|before| before.clock) => {}
                _ if before.as_ref() == Some(&unsigned) => {}
                _ => error!(trust = shared.name, "nothing was signed: {text}"),
            }
            for answer in answers {
                shared.note_refused(&unavailable(text.clone()));
                let _ = answer.send(Err(unavailable(text.clone())));
            }
        }
    }
}
