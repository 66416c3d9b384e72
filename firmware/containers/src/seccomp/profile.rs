//! What Docker's default profile lets a container call.

use std::collections::BTreeMap;

use super::filter::{Case, ENOSYS, EPERM, Rule, Verdict};

/// Calls that every container may make, on the architectures that have them.
const ALWAYS: &str = "\
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 \
arm_sync_file_range bind breakpoint brk cacheflush cachestat capget capset chdir chmod chown \
chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd \
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 \
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset \
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack \
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall \
mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget \
msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat \
openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll \
ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv \
process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead \
readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address set_tls \
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid \
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget \
shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat \
stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range sync_file_range2 \
syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink \
unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid \
write writev";

/// Calls that a capability opens: its number in the kernel, and their names.
const BY_CAPABILITY: [(u32, &str); 15] = [
    (2, "open_by_handle_at"),
    (16, "delete_module init_module finit_module"),
    (17, "iopl ioperm"),
    (18, "chroot"),
    (19, "kcmp pidfd_getfd process_madvise"),
    (20, "acct"),
    (SYS_ADMIN, "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie"),
    (SYS_ADMIN, "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr"),
    (SYS_ADMIN, "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname"),
    (SYS_ADMIN, "sethostname setns syslog umount umount2 unshare"),
    (22, "reboot"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (25, "settimeofday stime clock_settime clock_settime64"),
    (26, "vhangup"),
    (34, "syslog"),
];
const BY_NEWER_CAPABILITY: [(u32, &str); 2] = [(38, "perf_event_open"), (39, "bpf")];

const SYS_ADMIN: u32 = 21;

/// The flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// The personalities that may be set: none, 32-bit, both also with fixed addresses, and the query.
const PERSONALITIES: &[Case] = &[
    (0, true),
    (1, false),
    (8, true),
    (9, false),
    (0x2_0000, true),
    (0x2_0001, false),
    (0x2_0008, true),
    (0x2_0009, false),
    (0xffff_ffff, true),
];

/// The address families of sockets. Left out are those that reach the machine's host (VSOCK) or
/// the kernel's own (ALG), and those that nobody has used for long.
const FAMILIES: &[Case] = &[
    (0, true),
    (12, false),
    (13, true),
    (19, false),
    (21, true),
    (23, false),
    (24, true),
    (25, false),
    (26, true),
    (34, false),
    (35, true),
    (37, false),
    (39, true),
    (40, false),
    (41, true),
    (46, false),
];

/// The rules for the system calls of one architecture, ascending from 0 without a gap.
pub(super) fn rules(numbers: &'static str, capabilities: u64) -> Vec<Rule> {
    let numbers: BTreeMap<&str, u32> = numbers
        .split(' ')
        .filter_map(|entry| entry.split_once('='))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect();
    let mut verdicts = BTreeMap::new();
    let mut set = |name: &str, verdict| {
        if let Some(number) = numbers.get(name) {
            verdicts.insert(*number, verdict);
        }
    };
    for name in ALWAYS.split(' ') {
        set(name, Verdict::Allow);
    }
    set("socket", Verdict::ByArgument(FAMILIES));
    set("personality", Verdict::ByArgument(PERSONALITIES));
    set("clone", Verdict::Without(NAMESPACE_FLAGS));
    // Its flags are in memory, where no filter sees them; told so, C libraries use `clone`.
    set("clone3", Verdict::Refuse(ENOSYS));
    for (capability, names) in BY_CAPABILITY.iter().chain(&BY_NEWER_CAPABILITY) {
        if capabilities & 1 << capability != 0 {
            names.split(' ').for_each(|name| set(name, Verdict::Allow));
        }
    }
    join(verdicts)
}

/// Fills the gaps with refusals, and joins neighbours of one verdict.
fn join(verdicts: BTreeMap<u32, Verdict>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = vec![(0, Verdict::Refuse(EPERM))];
    let mut next = 0;
    let mut add = |number, verdict| match rules.last_mut() {
        Some((_, last)) if *last == verdict => {}
        Some(last) if last.0 == number => last.1 = verdict,
        _ => rules.push((number, verdict)),
    };
    for (number, verdict) in verdicts {
        if number > next {
            add(next, Verdict::Refuse(EPERM));
        }
        add(number, verdict);
        next = number + 1;
    }
    add(next, Verdict::Refuse(EPERM));
    rules
}
