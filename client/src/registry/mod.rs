//! The distribution API over hyper.
