//! What the tests share: real servers, hostile servers, images, peers.
