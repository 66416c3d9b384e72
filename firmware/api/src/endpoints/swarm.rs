//! `/swarm`: the cluster as one object.

use bramble_cluster::{ClusterState, Command, JoinSecrets, Version};
use serde_json::Value;

use crate::{
    body,
    cluster::WriteTokens,
    error::ApiError,
    types::{
        self,
        swarm::{Swarm, fixed_settings},
    },
};

/// What a board answers that belongs to no cluster yet.
pub(crate) const SEEKING: &str = "this board is not a part of a cluster: unless it left one, it looks for one by itself; boards \
     whose bramble.toml carries the same cluster key find each other";

/// Which join tokens are replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The one for workers.
    pub(crate) worker: bool,
    /// The one for managers.
    pub(crate) manager: bool,
}

/// `GET /swarm`
pub(crate) fn inspect(state: &ClusterState, tokens: &WriteTokens) -> Result<Value, ApiError> {
    let cluster = state.cluster().ok_or_else(|| ApiError::Unavailable(SEEKING.to_owned()))?;
    let swarm = Swarm { join_tokens: Some(tokens(cluster)), ..Swarm::from_cluster(cluster) };
    whole(&swarm)
}

/// The swarm object in `/info`, without its tokens.
pub(crate) fn summary(state: &ClusterState) -> Option<Value> {
    whole(&Swarm::from_cluster(state.cluster()?)).ok()
}

/// With the settings that Bramble chooses by itself.
fn whole(swarm: &Swarm) -> Result<Value, ApiError> {
    let mut json = serde_json::to_value(swarm).map_err(|error| ApiError::internal(&error))?;
    if let (Some(Value::Object(spec)), Value::Object(fixed)) =
        (json.get_mut("Spec"), fixed_settings())
    {
        spec.extend(fixed);
    }
    Ok(json)
}

/// `POST /swarm/update`: the commands that it means. `fresh` is drawn at random by the caller.
pub(crate) fn update(
    state: &ClusterState,
    version: Version,
    request: Value,
    rotation: Rotation,
    fresh: JoinSecrets,
) -> Result<Vec<Command>, ApiError> {
    let cluster = state.cluster().ok_or_else(|| ApiError::Unavailable(SEEKING.to_owned()))?;
    if request.pointer("/EncryptionConfig/AutoLockManagers") == Some(&Value::Bool(true)) {
        let message = "autolock is not supported: a board's keys lie on its own disk".to_owned();
        return Err(ApiError::BadRequest(message));
    }
    let spec: types::swarm::SwarmSpec = body::read(request)?;
    let spec = spec.into_cluster()?;
    if version != Version(0) && version != cluster.version {
        let message = format!(
            "update out of sequence: the swarm is at version {}, not {version}",
            cluster.version
        );
        return Err(ApiError::Conflict(message));
    }
    let mut commands = Vec::new();
    if spec != cluster.spec {
        commands.push(Command::UpdateCluster { version, spec });
    }
    if rotation != Rotation::default() {
        let JoinSecrets { worker, manager } = cluster.join_secrets;
        let secrets = JoinSecrets {
            worker: if rotation.worker { fresh.worker } else { worker },
            manager: if rotation.manager { fresh.manager } else { manager },
        };
        commands.push(Command::RotateJoinSecrets { secrets });
    }
    Ok(commands)
}

/// `POST /swarm/init`: there is nothing to type.
pub(crate) fn init(is_member: bool) -> ApiError {
    if is_member {
        return already();
    }
    ApiError::Unavailable(SEEKING.to_owned())
}

/// `POST /swarm/join`: boards join by themselves, or with the token in their configuration.
pub(crate) fn join(is_member: bool) -> ApiError {
    if is_member {
        return already();
    }
    ApiError::Unavailable(
        "boards do not join by command: put the token and a manager's address under `[cluster]` in bramble.toml and \
         start the board again, or give it the cluster's key"
            .to_owned(),
    )
}

fn already() -> ApiError {
    ApiError::Unavailable(
        "this node is already part of a swarm: `docker swarm leave` takes the board out of its \
         cluster first"
            .to_owned(),
    )
}

/// What leaving means for the cluster: the board's node is removed.
pub(crate) fn leave(
    state: &ClusterState,
    node: bramble_cluster::NodeId,
    is_forced: bool,
) -> Result<Command, ApiError> {
    let own = state.node(node).ok_or_else(|| ApiError::Unavailable(SEEKING.to_owned()))?;
    if !is_forced && own.role == bramble_cluster::Role::Manager {
        let managers =
            state.nodes().values().filter(|node| node.role == bramble_cluster::Role::Manager);
        let message = format!(
            "You are attempting to leave the swarm on a node that is participating as a manager: \
             {} is one of {}. Use `--force` to leave anyway, or demote the node first: `docker \
             node demote {}`",
            own.description.hostname,
            managers.count(),
            own.description.hostname
        );
        return Err(ApiError::Unavailable(message));
    }
    Ok(Command::RemoveNode { id: node, is_forced: true })
}
