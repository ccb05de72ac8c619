//! The body of an answer, which holds its request open until its last byte is on its way.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use crate::limit::Open;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Answer<B> {
    body: B,
    _open: Option<Open>,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, open: Option<Open>) -> Answer<B> {
        Answer { body, _open: open }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
