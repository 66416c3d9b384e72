//! The consensus of several boards in one process: their connections are pipes that can be cut,
//! each board has a runtime of its own that can be killed, and the disks are real.

mod board;
mod clash;
mod fabric;
mod failover;
mod founding;
mod idle;
mod quorum;
mod snapshots;
mod space;
mod voters;
