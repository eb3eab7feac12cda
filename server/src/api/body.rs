//! Bodies of requests, bounded in bytes and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use plimsoll::publish::api::RefusalCode;
use tokio::time::timeout;

use super::failure::Failure;

/// The whole body, if it is at most `limit` bytes and there within `deadline`.
///
/// A body that is too long is read up to twice the limit before it is refused: a sender that is cut off sooner may
/// never see the answer.
///
/// # Errors
/// [`Failure`]: 413, 408, or 400 if it breaks off.
pub(super) async fn collect(body: Body, limit: u64, deadline: Duration) -> Result<Bytes, Failure> {
    timeout(deadline, read(body, limit)).await.unwrap_or_else(|_| Err(Failure::slow()))
}

async fn read(mut body: Body, limit: u64) -> Result<Bytes, Failure> {
    let too_large = || Failure::new(RefusalCode::TooLarge, format!("the body is longer than {limit} bytes"));
    if body.size_hint().lower() > 2 * limit {
        return Err(too_large());
    }
    let (mut bytes, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::malformed("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > 2 * limit {
            break;
        }
        if length <= limit {
            bytes.extend_from_slice(&data);
        }
    }
    if length > limit { Err(too_large()) } else { Ok(bytes.freeze()) }
}
