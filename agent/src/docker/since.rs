//! Keys that an older daemon drops in silence: asked of it, they are refused.

use super::error::Cause;
use bollard::models::{ContainerCreateBody, EndpointSettings};

/// API versions of Docker 24 and 25.
const DOCKER_24: (usize, usize) = (1, 43);
const DOCKER_25: (usize, usize) = (1, 44);

/// Whether a daemon of this API takes all of `body`. Errors: [`Cause::TooOld`].
pub fn check(body: &ContainerCreateBody, api: (usize, usize)) -> Result<(), Cause> {
    let host = body.host_config.as_ref();
    let annotations = host.is_some_and(|host| host.annotations.is_some());
    needs("annotations", annotations, DOCKER_24, api)?;
    let health = body.healthcheck.as_ref();
    let start_interval = health.is_some_and(|health| health.start_interval.is_some());
    needs("healthcheck.start_interval", start_interval, DOCKER_25, api)?;
    let networks = body.networking_config.as_ref();
    let endpoints = networks.and_then(|networks| networks.endpoints_config.as_ref());
    for endpoint in endpoints.into_iter().flat_map(|all| all.values()) {
        check_endpoint(endpoint, api)?;
    }
    Ok(())
}

/// [`check`] for one network.
pub fn check_endpoint(endpoint: &EndpointSettings, api: (usize, usize)) -> Result<(), Cause> {
    needs(
        "mac_address",
        endpoint.mac_address.is_some(),
        DOCKER_25,
        api,
    )
}

fn needs(
    key: &'static str,
    is_there: bool,
    least: (usize, usize),
    api: (usize, usize),
) -> Result<(), Cause> {
    match is_there && api < least {
        true => Err(Cause::TooOld { key, least, api }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{DOCKER_25, check_endpoint};
    use bollard::models::EndpointSettings;

    #[test]
    fn a_key_that_an_old_daemon_would_drop_is_refused() {
        let endpoint = EndpointSettings {
            mac_address: Some("02:42:0a:00:00:05".into()),
            ..EndpointSettings::default()
        };
        let error = check_endpoint(&endpoint, (1, 41)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mac_address needs API 1.44 of docker, this one speaks 1.41"
        );
        assert!(check_endpoint(&endpoint, DOCKER_25).is_ok());
        assert!(check_endpoint(&EndpointSettings::default(), (1, 41)).is_ok());
    }
}
