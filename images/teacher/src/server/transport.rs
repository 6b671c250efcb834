//! How an answer gets to the client: whole or as server-sent events, and, where that is the fault asked for, not to its end.

use std::convert::Infallible;
use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use super::Fault;
use crate::protocol::{ChatRequest, Completion};

pub(super) fn respond(request: &ChatRequest, completion: &Completion, fault: Option<Fault>) -> Response {
    let streams = request.stream.unwrap_or_default();
    let (kind, pieces) = if streams {
        let with_usage = request.stream_options.unwrap_or_default().include_usage;
        let events = completion.pieces(with_usage).into_iter().chain(["[DONE]".to_owned()]);
        ("text/event-stream", events.map(|piece| Bytes::from(format!("data: {piece}\n\n"))).collect::<Vec<_>>())
    } else {
        ("application/json", vec![Bytes::from(completion.body().to_string())])
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body(pieces, fault)).into_response()
}

fn body(pieces: Vec<Bytes>, fault: Option<Fault>) -> Body {
    match fault {
        Some(Fault::Stall) => {
            Body::from_stream(stream::iter(half(pieces)).map(Ok::<_, Infallible>).chain(stream::pending()))
        }
        Some(Fault::Reset) => {
            let cut = io::Error::new(io::ErrorKind::ConnectionReset, "a fault that was asked for");
            Body::from_stream(stream::iter(half(pieces)).map(Ok).chain(stream::iter([Err(cut)])))
        }
        _ => match <[Bytes; 1]>::try_from(pieces) {
            Ok([whole]) => Body::from(whole),
            Err(pieces) => Body::from_stream(stream::iter(pieces).map(Ok::<_, Infallible>)),
        },
    }
}

/// The first half of what would be sent.
fn half(pieces: Vec<Bytes>) -> Vec<Bytes> {
    if let [whole] = &pieces[..] {
        return vec![whole.slice(..whole.len() / 2)];
    }
    let count = pieces.len() / 2;
    pieces.into_iter().take(count).collect()
}
