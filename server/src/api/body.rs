//! Bodies of requests, bounded in bytes, time, and the room that all of them take together.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use plimsoll::publish::api::RefusalCode;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::failure::Failure;

/// The room for bodies, KiB: of everybody, and of the peer that sends this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) all: &'a Semaphore,
    pub(super) peer: &'a Semaphore,
}

/// A body, and the room that it takes for as long as this is kept.
#[derive(Debug)]
pub(super) struct Collected<'a> {
    pub(super) bytes: Bytes,
    _room: Taken<'a>,
}

/// The whole body, if it is at most `limit` bytes and there within `deadline`.
///
/// A body that is too long is read up to twice the limit before it is refused: a sender that is cut off sooner may
/// never see the answer.
///
/// # Errors
/// [`Failure`]: 413, 408, 400 if it breaks off; 429 or 503 if there is no room.
pub(super) async fn collect(
    body: Body,
    limit: u64,
    deadline: Duration,
    room: Room<'_>,
) -> Result<Collected<'_>, Failure> {
    timeout(deadline, read(body, limit, room)).await.unwrap_or_else(|_| Err(Failure::slow()))
}

async fn read(mut body: Body, limit: u64, room: Room<'_>) -> Result<Collected<'_>, Failure> {
    let too_large = || Failure::new(RefusalCode::TooLarge, format!("the body is longer than {limit} bytes"));
    if body.size_hint().lower() > 2 * limit {
        return Err(too_large());
    }
    let (mut bytes, mut length) = (BytesMut::new(), 0);
    let mut taken = Taken { all: None, peer: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::malformed("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > 2 * limit {
            break;
        }
        if length <= limit {
            taken.grow(bytes.len() + data.len(), room)?;
            bytes.extend_from_slice(&data);
        }
    }
    if length > limit { Err(too_large()) } else { Ok(Collected { bytes: bytes.freeze(), _room: taken }) }
}

/// The room that one body takes, KiB. Taken as it comes: who announces much and sends nothing holds nothing.
#[derive(Debug)]
struct Taken<'a> {
    all: Option<SemaphorePermit<'a>>,
    peer: Option<SemaphorePermit<'a>>,
}

impl<'a> Taken<'a> {
    fn grow(&mut self, bytes: usize, room: Room<'a>) -> Result<(), Failure> {
        let held = self.all.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = (bytes.div_ceil(1024)).saturating_sub(held);
        let Some(more) = u32::try_from(more).ok().filter(|more| *more > 0) else { return Ok(()) };
        // Never waited for: two that wait for each other's room would both wait for ever.
        let peer = room.peer.try_acquire_many(more);
        let peer = peer.map_err(|_| Failure::crowded("too many bytes at a time come from this address"))?;
        let all = room.all.try_acquire_many(more);
        let all = all.map_err(|_| Failure::unavailable("too many bytes at a time; try again"))?;
        merge(&mut self.peer, peer);
        merge(&mut self.all, all);
        Ok(())
    }
}

fn merge<'a>(held: &mut Option<SemaphorePermit<'a>>, more: SemaphorePermit<'a>) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}
