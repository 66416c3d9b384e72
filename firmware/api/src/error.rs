//! What a request is answered with when it cannot be done: Docker's status codes, and words that
//! name the thing and say what to do.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bramble_cluster::chain;
use serde_json::json;

use crate::types::InvalidField;

/// Why a request cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such thing.
    #[error("{kind} {name} not found")]
    NotFound {
        /// `service`, `node`, …
        kind: &'static str,
        /// As the request names it.
        name: String,
    },
    /// The beginning of an id, or a host name, that several things have.
    #[error("{kind} {name} is ambiguous: {count} match; give more of the id")]
    Ambiguous {
        /// `service`, `node`, …
        kind: &'static str,
        /// As the request names it.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// No board of the cluster holds the image.
    #[error("no such image: {name}: load it with `docker load` or `bramble image load`")]
    NoSuchImage {
        /// As the request names it.
        name: String,
    },
    /// There is no such thing, in other words.
    #[error("{0}")]
    Missing(String),
    /// A field of the request is wrong.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The request is wrong as a whole.
    #[error("{0}")]
    BadRequest(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// Docker has it and Bramble has not.
    #[error("{0}")]
    Unsupported(String),
    /// The cluster cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// A request that reached a board that does not lead (any more). The sender tries again.
    #[error("this board does not lead the cluster")]
    Misdirected,
    /// Something is broken here.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// The status code that Docker gives it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::NoSuchImage { .. } | Self::Missing(_) => {
                StatusCode::NOT_FOUND
            }
            Self::Ambiguous { .. } | Self::Field(_) | Self::BadRequest(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// An error as one text, its causes behind it.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Internal(chain(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({"message": self.to_string()}))).into_response()
    }
}
