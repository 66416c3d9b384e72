//! The bodies of requests: bounded, and JSON.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;

/// Bytes in a body of JSON. The largest thing anybody sends is a service's specification.
pub const JSON_BYTES: usize = 2 * 1_024 * 1_024;

/// Reads a whole body as JSON.
pub(crate) async fn json(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if declared.is_some_and(|declared| !declared.starts_with("application/json")) {
        let message = format!("the body is {}: application/json is needed", declared.unwrap_or(""));
        return Err(ApiError::BadRequest(message));
    }
    let bytes = axum::body::to_bytes(body, JSON_BYTES).await.map_err(|_| {
        let message = format!("the body is incomplete or longer than {JSON_BYTES} bytes");
        ApiError::BadRequest(message)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::BadRequest(format!("the body is not JSON: {error}")))
}

/// Reads JSON as what an endpoint understands.
pub(crate) fn read<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body)
        .map_err(|error| ApiError::BadRequest(format!("the body has another shape: {error}")))
}
