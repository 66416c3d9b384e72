//! The version in front of a path: `/v1.47/services` is `/services`.

use axum::{extract::Request, http::Uri};

use crate::{
    error::ApiError,
    types::system::{API_VERSION, MIN_API_VERSION},
};

/// Takes the version off a request's path, if it is one that is spoken here.
pub(crate) fn strip(mut request: Request) -> Result<Request, ApiError> {
    let Some((version, rest)) = split(request.uri().path()) else { return Ok(request) };
    let (asked, newest, oldest) = (number(version), number(API_VERSION), number(MIN_API_VERSION));
    if asked > newest {
        let message = format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        );
        return Err(ApiError::BadRequest(message));
    }
    if asked < oldest {
        let message = format!(
            "client version {version} is too old. Minimum supported API version is \
             {MIN_API_VERSION}, please upgrade your client to a newer version"
        );
        return Err(ApiError::BadRequest(message));
    }
    let target = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let uri: Uri = target.parse().map_err(|_| ApiError::BadRequest("no such path".to_owned()))?;
    *request.uri_mut() = uri;
    Ok(request)
}

/// `/v1.47/x` as `1.47` and `/x`.
fn split(path: &str) -> Option<(&str, &str)> {
    let after = path.strip_prefix("/v")?;
    let slash = after.find('/')?;
    let (version, rest) = after.split_at(slash);
    number(version).map(|_| (version, rest))
}

fn number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(major) && is_number(minor)).then_some(())?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn stripped(uri: &str) -> Result<String, String> {
        let request = Request::builder().uri(uri).body(Body::empty()).expect("a request");
        strip(request).map(|request| request.uri().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn versions_are_optional_and_checked() {
        assert_eq!(stripped("/services?a=b").as_deref(), Ok("/services?a=b"));
        assert_eq!(stripped("/v1.43/services?a=b").as_deref(), Ok("/services?a=b"));
        assert_eq!(stripped("/v1.47/_ping").as_deref(), Ok("/_ping"));
        assert_eq!(stripped("/version").as_deref(), Ok("/version"));
        assert_eq!(stripped("/volumes/v1").as_deref(), Ok("/volumes/v1"));
        assert!(stripped("/v1.99/info").expect_err("too new").contains("too new"));
        assert!(stripped("/v2.0/info").expect_err("too new").contains("too new"));
        assert!(stripped("/v1.5/info").expect_err("too old").contains("too old"));
    }
}
