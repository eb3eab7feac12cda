//! What the store holds of a trust repository, page by page, for `plimsolld backup` beside a running daemon.

use std::time::Duration;

use axum::{
    extract::{Path, Query, Request, State, rejection::PathRejection, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::{Api, failure::Failure};

/// How long to wait for one's turn.
const TURN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    after: Option<String>,
}

/// `GET /v1/trusts/NAME/export?after=WHERE`
pub(super) async fn page(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    from: Result<Query<From>, QueryRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(name) = name.map_err(|_| Failure::no_such_trust())?;
    let Query(From { after }) = from.map_err(|_| {
        Failure::malformed("the query may hold `after`, as the page before said, and no more")
    })?;
    let engine = api.engine(&name)?;
    // Pages are large, so they are made one at a time, and of each peer no more than one waits for that: who asks for very
    // many waits for itself, and a backup from elsewhere for one page of each.
    let account = api.shared.peers.account_of(request.extensions(), Instant::now());
    let turn = timeout(TURN, account.exports.acquire()).await;
    let turn = turn.map_err(|_| Failure::crowded("too many pages at a time go to this address"))?;
    let _own_turn = turn.expect("this semaphore is never closed");
    let busy = |_| Failure::unavailable("others are being answered; try again in a moment");
    let turn = timeout(TURN, api.shared.exports.acquire()).await.map_err(busy)?;
    let _turn = turn.map_err(|_| Failure::stopping())?;
    let page = engine.export(after).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, page).into_response())
}
