//! `cargo simulate --seed S --hours H [--worlds N] [--trace]`: simulated clusters, see
//! [`bramble_tests::simulation`].

use std::{env, process::ExitCode, time::Instant};

use bramble_tests::simulation::{Summary, simulate};

const USAGE: &str = "usage: cargo simulate [--seed S] [--hours H] [--worlds N] [--trace]";

fn main() -> ExitCode {
    let Some(wish) = wish(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let started_at = Instant::now();
    let mut total = Summary::default();
    for seed in (wish.seed..).take(wish.worlds) {
        match simulate(seed, wish.hours, wish.is_traced) {
            Ok(summary) => total.add(&summary),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{total} in {:.1} s", started_at.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

struct Wish {
    seed: u64,
    hours: u64,
    worlds: usize,
    is_traced: bool,
}

fn wish(mut arguments: impl Iterator<Item = String>) -> Option<Wish> {
    let mut wish = Wish { seed: 1, hours: 1, worlds: 1, is_traced: false };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--seed" => wish.seed = arguments.next()?.parse().ok()?,
            "--hours" => wish.hours = arguments.next()?.parse().ok()?,
            "--worlds" => wish.worlds = arguments.next()?.parse().ok()?,
            "--trace" => wish.is_traced = true,
            _ => return None,
        }
    }
    Some(wish)
}
