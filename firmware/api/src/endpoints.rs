//! What each request does, one file a resource.
//!
//! Reading is a function of the state; writing is a function from the state and the request to a
//! command. Only the routes in `router` touch the world.

pub(crate) mod containers;
pub(crate) mod networks;
pub(crate) mod nodes;
pub(crate) mod services;
pub(crate) mod swarm;
pub(crate) mod tasks;
