//! Refusals: all of it for the operator, an id for the peer.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use touchmark_api::problem::{MEDIA_TYPE, Problem};
use touchmark_rats::{Refusal, Retry};
use touchmark_store::StoredRefusal;
use uuid::Uuid;

/// An answer as it is sent and stored.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A document.
    pub(crate) fn document(media_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            media_type,
            body,
        }
    }

    /// A refusal: nothing but an id and whether trying again can help.
    pub(crate) fn refused(status: StatusCode, id: &str, retry: Retry) -> Self {
        let retry = match retry {
            Retry::Never => "never",
            Retry::Fresh => "fresh",
            Retry::Later => "later",
        };
        let body = serde_json::to_vec(&Problem::new(status.as_u16(), id, retry)).unwrap_or_default();
        Self {
            status,
            media_type: MEDIA_TYPE,
            body,
        }
    }

    /// The refusal of somebody who has not shown who they are: the same for every reason. The reason goes to the log.
    pub(crate) fn stranger(why: &str) -> Self {
        let id = new_id();
        tracing::info!(refusal = %id, why = %why.escape_debug(), "refused a request that was not authenticated");
        Self::refused(StatusCode::FORBIDDEN, &id, Retry::Fresh)
    }

    /// The service cannot answer now.
    pub(crate) fn unavailable(why: &dyn std::fmt::Display) -> Self {
        let id = new_id();
        tracing::error!(refusal = %id, %why, "could not answer");
        Self::refused(StatusCode::SERVICE_UNAVAILABLE, &id, Retry::Later)
    }

    /// Too many requests.
    pub(crate) fn slow_down() -> Self {
        Self::refused(StatusCode::TOO_MANY_REQUESTS, &new_id(), Retry::Later)
    }

    /// An answer that was given before.
    pub(crate) fn again(stored: &touchmark_store::Stored, media_type: &'static str) -> Self {
        let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = if status.is_success() {
            media_type
        } else {
            MEDIA_TYPE
        };
        Self {
            status,
            media_type,
            body: stored.answer.clone(),
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A new refusal id.
pub(crate) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// A refusal as it is stored.
pub(crate) fn stored(id: &str, host: &str, subject: &str, refusal: &Refusal, now: u64) -> StoredRefusal {
    StoredRefusal {
        id: id.to_owned(),
        at: now,
        host: host.to_owned(),
        subject: subject.to_owned(),
        check: refusal.check.to_owned(),
        reason: refusal.reason.code().to_owned(),
        expected: refusal.expected.clone(),
        found: refusal.found.clone(),
        remedy: refusal.remedy.clone(),
    }
}
