//! Taking submissions and telling how far they came.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use bytes::Bytes;
use plimsoll::publish::api::{Accepted, MAX_DOCUMENTS, MAX_SUBMISSION, Refusal, RefusalCode};
use plimsoll_core::{record, tuf::json};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{
    Api, Phase,
    body::{self, Room},
    failure::Failure,
    reached,
};
use crate::pipeline::{Engine, Examined};

/// How long the body of a submission may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a submission waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long a question for progress may wait, seconds.
const MAX_WAIT: u64 = 20;
/// A body of up to this many bytes is looked at where it was received: that takes less than to hand it to another thread.
const AT_ONCE: usize = 8 << 10;
/// No id is longer.
const MAX_ID: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

/// `POST /v1/trusts/NAME/submissions`
pub(super) async fn submit(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Failure> {
    let Path(name) = name.map_err(|_| Failure::no_such_trust())?;
    let engine = api.engine(&name)?;
    let shared = &api.shared;
    let account = shared.peers.account_of(request.extensions(), Instant::now());
    account.check(Instant::now())?;
    // Before anything of the body is read.
    let token = api.shared.gate.admit(&name, request.headers()).map_err(|denial| {
        debug!(trust = name, "a submission without a good token: {denial}");
        Failure::denied(&denial)
    });
    let token = token.inspect_err(|failure| account.charge(failure))?;
    // The peer's own turn first, so that those who wait for one of all are never more than a few of each.
    let turn = timeout(TURN, account.submissions.acquire()).await;
    let turn = turn.map_err(|_| Failure::crowded("too many submissions at a time come from this address"))?;
    let _own_turn = turn.expect("this semaphore is never closed");
    let turn = timeout(TURN, shared.submissions.acquire()).await;
    let busy = || Failure::unavailable("too many submissions at a time; try again");
    let _turn = turn.map_err(|_| busy())?.expect("this semaphore is never closed");
    account.check(Instant::now())?;

    let room = Room { all: &shared.bodies, peer: &account.bodies };
    let body = body::collect(request.into_body(), MAX_SUBMISSION, BODY_TIME, room).await;
    let body = body.inspect_err(|failure| account.charge(failure))?;
    let examined = {
        let _own_parser = account.parser.acquire().await.expect("this semaphore is never closed");
        // What failed while this one waited counts for it.
        account.check(Instant::now())?;
        let _parser = shared.parsers.acquire().await.expect("this semaphore is never closed");
        let (examined, work) = match examine_at_once(&engine, &body.bytes) {
            Some(examined) => examined,
            None => {
                let (engine, bytes) = (engine.clone(), body.bytes.clone());
                let work = move || {
                    let started = Instant::now();
                    let examined = documents(&bytes).and_then(|documents| Ok(engine.examine(documents)?));
                    (examined, started.elapsed())
                };
                // A panic of the parser is passed on: it ends this connection and nothing else.
                let done = tokio::task::spawn_blocking(work).await;
                done.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
            }
        };
        if !matches!(examined, Ok(Examined::New(_))) {
            account.spent(work, Instant::now());
        }
        examined.inspect_err(|failure| account.charge(failure))?
    };
    drop(body);
    if *shared.phase.borrow() != Phase::Serving {
        return Err(Failure::stopping());
    }
    let taken = engine.take(examined).await.map_err(Failure::of_engine);
    let accepted = taken.inspect_err(|failure| account.charge(failure))?;
    if let Some(token) = token {
        info!(trust = name, id = accepted.id, token, "submitted with a token");
    }
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// Looks at a small submission without the disk, if that will do, and says how long that took.
fn examine_at_once(engine: &Engine, bytes: &Bytes) -> Option<(Result<Examined, Failure>, Duration)> {
    if bytes.len() > AT_ONCE {
        return None;
    }
    let started = Instant::now();
    let examined = match documents(bytes) {
        Ok(documents) => engine.examine_in_memory(documents)?.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    Some((examined, started.elapsed()))
}

/// `GET /v1/trusts/NAME/submissions/ID?wait=SECONDS`
pub(super) async fn progress(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<Accepted>, Failure> {
    let Path((name, id)) = path.map_err(|_| Failure::no_such_trust())?;
    let Query(query) = query.map_err(|_| Failure::malformed("the query may only be wait=SECONDS"))?;
    let engine = api.engine(&name)?;
    let unknown = || Failure::not_found("no submission of this id");
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let wait = Duration::from_secs(query.wait.min(MAX_WAIT));
    let mut phase = api.phase();
    let found = tokio::select! {
        found = engine.submission(&id, wait) => found?,
        // Whoever waits here would hold up the daemon's end.
        () = reached(&mut phase, Phase::Draining) => engine.submission(&id, Duration::ZERO).await?,
    };
    found.map(Json).ok_or_else(unknown)
}

/// The documents of a submission that came another way, by role, each verbatim. Their content is not looked at.
///
/// # Errors
/// [`Refusal`], malformed or too large.
pub(crate) fn read(bytes: &Bytes) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    documents(bytes).map_err(|failure| failure.refusal)
}

/// The documents of a submission, by role, each verbatim. Their content is not looked at.
fn documents(bytes: &Bytes) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent<'a> {
        #[serde(borrow)]
        documents: BTreeMap<String, &'a RawValue>,
    }
    let strict = json::check(bytes);
    strict.map_err(|e| Failure::malformed(format!("the submission is not strict JSON: {e}")))?;
    let shape =
        || Failure::malformed("a submission is {\"documents\": {ROLE: DOCUMENT, …}} and nothing else");
    let Sent { documents } = record::json(bytes).map_err(|_| shape())?;
    if documents.is_empty() || !documents.values().all(|document| document.get().starts_with('{')) {
        return Err(shape());
    }
    if documents.len() > MAX_DOCUMENTS {
        let message = format!("{} documents; a submission has at most {MAX_DOCUMENTS}", documents.len());
        return Err(Failure::new(RefusalCode::TooLarge, message));
    }
    Ok(documents.into_iter().map(|(role, raw)| (role, raw.get().as_bytes().to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> RefusalCode {
        documents(&Bytes::copy_from_slice(text.as_bytes())).unwrap_err().refusal.code
    }

    #[test]
    fn documents_are_passed_on_verbatim() {
        let text =
            Bytes::from_static(br#" {"documents" : {"root": {"b" : 1, "a":"\u00e9"}, "targets":{}}} "#);
        let documents = documents(&text).unwrap();
        assert_eq!(documents["root"], br#"{"b" : 1, "a":"\u00e9"}"#);
        assert_eq!(documents["targets"], b"{}");
    }

    /// T50, T51, T53, T54.
    #[test]
    fn what_is_not_a_submission_is_refused() {
        let deep = format!("{{\"documents\":{{\"a\":{}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"documents":{}}"#,
            r#"{"documents":[]}"#,
            r#"{"documents":{"a":1}}"#,
            r#"{"documents":{"a":"{}"}}"#,
            r#"{"documents":{"a":{}},"x":1}"#,
            r#"{"documents":{"a":{}},"documents":{"a":{}}}"#,
            r#"{"documents":{"a":{},"a":{}}}"#,
            r#"{"documents":{"a":{"b":1,"b":1}}}"#,
            r#"{"documents":{"a":{}}}x"#,
            r#"{"documents":{"a":{"b":"\ud800"}}}"#,
            "\u{feff}{\"documents\":{\"a\":{}}}",
            deep.as_str(),
        ] {
            assert_eq!(refused(text), RefusalCode::Malformed, "{:.80}", text);
        }
    }

    /// T41.
    #[test]
    fn a_submission_has_a_limited_number_of_documents() {
        let list = |n: usize| (0..n).map(|i| format!("\"r{i}\":{{}}")).collect::<Vec<_>>().join(",");
        let text = |n| format!("{{\"documents\":{{{}}}}}", list(n));
        assert_eq!(documents(&text(MAX_DOCUMENTS).into()).unwrap().len(), MAX_DOCUMENTS);
        assert_eq!(refused(&text(MAX_DOCUMENTS + 1)), RefusalCode::TooLarge);
    }
}
