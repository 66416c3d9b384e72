//! Options that `service create` and `service update` share: each says one thing or nothing.

use anyhow::{Result, bail};
use bramble_api::types::{
    container::{ContainerSpec, Healthcheck},
    service::{EndpointSpec, ServiceSpec, UpdateConfig},
    task_spec::{LogDriver, RestartPolicy, TaskSpec},
};
use clap::{Args, ValueEnum};

use crate::cli::values::{bytes, cpus, duration, labels, words};

/// What is said once of a service.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Options {
    #[command(flatten, next_help_heading = "Container")]
    container: ContainerOptions,
    #[command(flatten, next_help_heading = "Health")]
    health: HealthOptions,
    #[command(flatten, next_help_heading = "Resources")]
    resources: ResourceOptions,
    #[command(flatten, next_help_heading = "Restart")]
    restart: RestartOptions,
    #[command(flatten, next_help_heading = "Update")]
    update: UpdateOptions,
    #[command(flatten, next_help_heading = "Rollback")]
    rollback: RollbackOptions,
    #[command(flatten, next_help_heading = "Placement and access")]
    placement: PlacementOptions,
}

#[derive(Debug, Clone, Default, Args)]
struct ContainerOptions {
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Host name in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// User, or user:group, in the container
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long the container has to stop (10s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stop_grace_period: Option<i64>,
    /// Give it a terminal
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tty: Option<bool>,
    /// Make its root file system read-only
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    read_only: Option<bool>,
    /// Run a tiny init as its first process
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    init: Option<bool>,
    /// How willing the kernel is to kill it for memory (-1000 to 1000)
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    oom_score_adj: Option<i64>,
    /// Where its log goes
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log's driver
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    log_options: Vec<String>,
}

#[derive(Debug, Clone, Default, Args)]
struct HealthOptions {
    /// Command that tells whether it works
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Between two checks (30s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_interval: Option<i64>,
    /// For one check (30s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_timeout: Option<i64>,
    /// How many failures in a row mean it does not work (3)
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,
    /// After the start, failures do not count for so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_period: Option<i64>,
    /// Between two checks meanwhile
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_interval: Option<i64>,
    /// Ignore the image's check
    #[arg(long)]
    no_healthcheck: bool,
}

#[derive(Debug, Clone, Default, Args)]
struct ResourceOptions {
    /// Cores at most (0.5)
    #[arg(long, value_name = "CORES", value_parser = cpus)]
    limit_cpu: Option<i64>,
    /// Memory at most (64m)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    limit_memory: Option<i64>,
    /// Processes at most
    #[arg(long, value_name = "COUNT")]
    limit_pids: Option<i64>,
    /// Cores that a board must have free
    #[arg(long, value_name = "CORES", value_parser = cpus)]
    reserve_cpu: Option<i64>,
    /// Memory that a board must have free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    reserve_memory: Option<i64>,
}

#[derive(Debug, Clone, Default, Args)]
struct RestartOptions {
    /// After which endings it starts again
    #[arg(long, value_name = "CONDITION")]
    restart_condition: Option<Condition>,
    /// How long to wait before (0.1s, then longer)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    restart_delay: Option<i64>,
    /// How many times at most (without limit)
    #[arg(long, value_name = "COUNT")]
    restart_max_attempts: Option<u64>,
    /// Endings longer ago do not count
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    restart_window: Option<i64>,
}

#[derive(Debug, Clone, Default, Args)]
struct UpdateOptions {
    /// How many tasks change at a time; 0 is all (1)
    #[arg(long, value_name = "COUNT")]
    update_parallelism: Option<u64>,
    /// Between two batches (0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    update_delay: Option<i64>,
    /// What to do when too many new tasks fail (pause)
    #[arg(long, value_name = "ACTION")]
    update_failure_action: Option<UpdateFailure>,
    /// How long a new task's failure counts (5s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    update_monitor: Option<i64>,
    /// Which part of the tasks may fail (0)
    #[arg(long, value_name = "RATIO")]
    update_max_failure_ratio: Option<f64>,
    /// Whether the new task starts before the old one stops (stop-first)
    #[arg(long, value_name = "ORDER")]
    update_order: Option<Order>,
}

#[derive(Debug, Clone, Default, Args)]
struct RollbackOptions {
    /// How many tasks go back at a time; 0 is all (1)
    #[arg(long, value_name = "COUNT")]
    rollback_parallelism: Option<u64>,
    /// Between two batches (0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    rollback_delay: Option<i64>,
    /// What to do when too many tasks fail (pause)
    #[arg(long, value_name = "ACTION")]
    rollback_failure_action: Option<RollbackFailure>,
    /// How long a task's failure counts (5s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    rollback_monitor: Option<i64>,
    /// Which part of the tasks may fail (0)
    #[arg(long, value_name = "RATIO")]
    rollback_max_failure_ratio: Option<f64>,
    /// Whether the old task starts before the new one stops (stop-first)
    #[arg(long, value_name = "ORDER")]
    rollback_order: Option<Order>,
}

#[derive(Debug, Clone, Default, Args)]
struct PlacementOptions {
    /// How many tasks
    #[arg(long, value_name = "COUNT")]
    replicas: Option<u64>,
    /// How many tasks on one board at most
    #[arg(long, value_name = "COUNT")]
    replicas_max_per_node: Option<u64>,
    /// What the service's name resolves to (vip)
    #[arg(long, value_name = "MODE")]
    endpoint_mode: Option<Endpoint>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Condition {
    Any,
    OnFailure,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UpdateFailure {
    Pause,
    Continue,
    Rollback,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RollbackFailure {
    Pause,
    Continue,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    StopFirst,
    StartFirst,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Endpoint {
    Vip,
    Dnsrr,
}

/// The word of a choice, as it is typed and as the API has it.
fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Overwrites what was said.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// The same for a field that may be absent.
fn set_some<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

impl Options {
    /// Writes into a specification what was said; the rest stays.
    pub(super) fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        let task = &mut spec.task_template;
        self.container.apply(&mut task.container_spec)?;
        self.container.apply_log(task)?;
        self.health.apply(&mut task.container_spec)?;
        self.resources.apply(task);
        self.restart.apply(task);
        self.update.apply(&mut spec.update_config);
        self.rollback.apply(&mut spec.rollback_config);
        self.placement.apply(spec)
    }
}

impl ContainerOptions {
    fn apply(&self, container: &mut ContainerSpec) -> Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            container.command = words(entrypoint)?;
        }
        set(&mut container.hostname, self.hostname.clone());
        set(&mut container.user, self.user.clone());
        set(&mut container.dir, self.workdir.clone());
        set(&mut container.stop_signal, self.stop_signal.clone());
        set_some(&mut container.stop_grace_period, self.stop_grace_period);
        set(&mut container.tty, self.tty);
        set(&mut container.read_only, self.read_only);
        set_some(&mut container.init, self.init);
        set(&mut container.oom_score_adj, self.oom_score_adj);
        Ok(())
    }

    fn apply_log(&self, task: &mut TaskSpec) -> Result<()> {
        if let Some(name) = &self.log_driver {
            let options = labels(&self.log_options);
            task.log_driver = Some(LogDriver { name: name.clone(), options });
        } else if !self.log_options.is_empty() {
            let Some(driver) = &mut task.log_driver else {
                bail!("--log-opt needs --log-driver");
            };
            driver.options.extend(labels(&self.log_options));
        }
        Ok(())
    }
}

impl HealthOptions {
    fn apply(&self, container: &mut ContainerSpec) -> Result<()> {
        let is_said = self.health_cmd.is_some()
            || self.health_interval.is_some()
            || self.health_timeout.is_some()
            || self.health_retries.is_some()
            || self.health_start_period.is_some()
            || self.health_start_interval.is_some();
        if self.no_healthcheck {
            if is_said {
                bail!("--no-healthcheck conflicts with the --health-* options");
            }
            let test = vec!["NONE".to_owned()];
            container.healthcheck = Some(Healthcheck { test, ..Healthcheck::default() });
            return Ok(());
        }
        if !is_said {
            return Ok(());
        }
        let check = container.healthcheck.get_or_insert_default();
        if let Some(command) = &self.health_cmd {
            check.test = vec!["CMD-SHELL".to_owned(), command.clone()];
        }
        set_some(&mut check.interval, self.health_interval);
        set_some(&mut check.timeout, self.health_timeout);
        set(&mut check.retries, self.health_retries);
        set_some(&mut check.start_period, self.health_start_period);
        set_some(&mut check.start_interval, self.health_start_interval);
        Ok(())
    }
}

impl ResourceOptions {
    fn apply(&self, task: &mut TaskSpec) {
        let resources = &mut task.resources;
        set(&mut resources.limits.nano_cpus, self.limit_cpu);
        set(&mut resources.limits.memory_bytes, self.limit_memory);
        set(&mut resources.limits.pids, self.limit_pids);
        set(&mut resources.reservations.nano_cpus, self.reserve_cpu);
        set(&mut resources.reservations.memory_bytes, self.reserve_memory);
    }
}

impl RestartOptions {
    fn apply(&self, task: &mut TaskSpec) {
        let mut policy = task.restart_policy.take().unwrap_or_default();
        set(&mut policy.condition, self.restart_condition.map(word));
        set_some(&mut policy.delay, self.restart_delay);
        set_some(&mut policy.max_attempts, self.restart_max_attempts);
        set_some(&mut policy.window, self.restart_window);
        task.restart_policy = (policy != RestartPolicy::default()).then_some(policy);
    }
}

impl UpdateOptions {
    fn apply(&self, config: &mut Option<UpdateConfig>) {
        let mut changed = config.clone().unwrap_or_else(default_update);
        set(&mut changed.parallelism, self.update_parallelism);
        set(&mut changed.delay, self.update_delay);
        set(&mut changed.failure_action, self.update_failure_action.map(word));
        set_some(&mut changed.monitor, self.update_monitor);
        set(&mut changed.max_failure_ratio, self.update_max_failure_ratio);
        set(&mut changed.order, self.update_order.map(word));
        *config = Some(changed);
    }
}

impl RollbackOptions {
    fn apply(&self, config: &mut Option<UpdateConfig>) {
        let mut changed = config.clone().unwrap_or_else(default_update);
        set(&mut changed.parallelism, self.rollback_parallelism);
        set(&mut changed.delay, self.rollback_delay);
        set(&mut changed.failure_action, self.rollback_failure_action.map(word));
        set_some(&mut changed.monitor, self.rollback_monitor);
        set(&mut changed.max_failure_ratio, self.rollback_max_failure_ratio);
        set(&mut changed.order, self.rollback_order.map(word));
        *config = Some(changed);
    }
}

fn default_update() -> UpdateConfig {
    UpdateConfig::from_cluster(&bramble_cluster::UpdateConfig::default())
}

impl PlacementOptions {
    fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        set(&mut spec.task_template.placement.max_replicas, self.replicas_max_per_node);
        if let Some(mode) = self.endpoint_mode {
            spec.endpoint_spec.get_or_insert_with(EndpointSpec::default).mode = word(mode);
        }
        if self.replicas.is_some() {
            if spec.mode.global.is_some() {
                bail!(
                    "--replicas is for replicated services: a global one has a task on every board"
                );
            }
            spec.mode.replicated.get_or_insert_default().replicas = self.replicas;
        }
        Ok(())
    }
}
