//! What the cluster answers to a command that it did not apply, as an answer to a request.

use bramble_cluster::Rejection;

use crate::error::ApiError;

/// The same words, with Docker's status code.
pub(crate) fn to_error(rejection: &Rejection) -> ApiError {
    let message = rejection.to_string();
    match rejection {
        Rejection::NotFound { kind, id } => {
            let kind = match kind {
                bramble_cluster::Kind::Cluster => "cluster",
                bramble_cluster::Kind::Node => "node",
                bramble_cluster::Kind::Service => "service",
                bramble_cluster::Kind::Task => "task",
                bramble_cluster::Kind::Image => "image",
            };
            ApiError::NotFound { kind, name: id.clone() }
        }
        Rejection::NameTaken { name, id } => ApiError::Conflict(format!(
            "name conflicts with an existing object: service {name} already exists ({id})"
        )),
        Rejection::AlreadyFounded
        | Rejection::Exists { .. }
        | Rejection::PortTaken { .. }
        | Rejection::Stale { .. }
        | Rejection::WouldLoseQuorum { .. } => ApiError::Conflict(message),
        Rejection::Invalid { .. }
        | Rejection::OverLimit { .. }
        | Rejection::NodeNotDown { .. }
        | Rejection::NodeRemoved { .. }
        | Rejection::NoPreviousSpec { .. } => ApiError::BadRequest(message),
        _ => ApiError::Internal(message),
    }
}
