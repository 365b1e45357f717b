//! Which module imports reach which call. A parameter that makes no sense, or a pointer that leads out of the module's
//! memory, is an error of the call; the code that wiggle would generate here ends the module instead.

use wasmtime::{Caller, Extern, Linker};
use wiggle::{GuestError, GuestMemory};

use super::{
    Instance,
    abi::{
        types::{Errno, Error},
        wasi_snapshot_preview1 as calls,
    },
    unstable,
};

/// What preview 1 is called in imports.
const MODULE: &str = "wasi_snapshot_preview1";

/// The module's memory, and its state.
pub(super) fn parts<'a>(
    caller: &'a mut Caller<'_, Instance>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Instance)> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => {
            let (bytes, instance) = memory.data_and_store_mut(caller);
            Ok((GuestMemory::Unshared(bytes), instance))
        }
        _ => Err(wasmtime::Error::msg("the module exports no memory of the name `memory`")),
    }
}

fn answer(answer: wasmtime::Result<i32>) -> wasmtime::Result<i32> {
    answer.or_else(|error| Ok(i32::from(u16::from(Errno::from(error.downcast::<GuestError>()?)))))
}

/// The answer of a call that was not generated.
pub(super) fn settle(outcome: Result<(), Error>) -> wasmtime::Result<i32> {
    match outcome {
        Ok(()) => Ok(i32::from(u16::from(Errno::Success))),
        Err(error) => error.downcast().map(|errno| i32::from(u16::from(errno))),
    }
}

macro_rules! link {
    ($linker:ident, $module:ident; $($name:ident($($argument:ident: $type:ty),*);)*) => {
        $($linker.func_wrap(
            $module,
            stringify!($name),
            |mut caller: Caller<'_, Instance>, $($argument: $type),*| -> wasmtime::Result<i32> {
                let (mut memory, instance) = parts(&mut caller)?;
                answer(calls::$name(instance, &mut memory, $($argument),*))
            },
        )?;)*
    };
}

macro_rules! link_async {
    ($linker:ident, $module:ident; $($name:ident($($argument:ident: $type:ty),*);)*) => {
        $($linker.func_wrap_async(
            $module,
            stringify!($name),
            |mut caller: Caller<'_, Instance>, ($($argument,)*): ($($type,)*)| {
                Box::new(async move {
                    let (mut memory, instance) = parts(&mut caller)?;
                    answer(calls::$name(instance, &mut memory, $($argument),*).await)
                })
            },
        )?;)*
    };
}

/// Preview 1, and what came before it.
pub(super) fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    both(linker, MODULE)?;
    link_async! { linker, MODULE;
        fd_filestat_get(a: i32, b: i32);
        fd_seek(a: i32, b: i64, c: i32, d: i32);
        path_filestat_get(a: i32, b: i32, c: i32, d: i32, e: i32);
        poll_oneoff(a: i32, b: i32, c: i32, d: i32);
        sock_accept(a: i32, b: i32, c: i32);
    }
    both(linker, unstable::MODULE)?;
    unstable::link(linker)
}

/// The calls that did not change.
fn both(linker: &mut Linker<Instance>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "proc_exit",
        |mut caller: Caller<'_, Instance>, code: i32| -> wasmtime::Result<()> {
            let (mut memory, instance) = parts(&mut caller)?;
            calls::proc_exit(instance, &mut memory, code)
        },
    )?;
    link! { linker, module;
        args_get(a: i32, b: i32);
        args_sizes_get(a: i32, b: i32);
        environ_get(a: i32, b: i32);
        environ_sizes_get(a: i32, b: i32);
        clock_res_get(a: i32, b: i32);
        clock_time_get(a: i32, b: i64, c: i32);
        fd_advise(a: i32, b: i64, c: i64, d: i32);
        fd_close(a: i32);
        fd_fdstat_get(a: i32, b: i32);
        fd_fdstat_set_flags(a: i32, b: i32);
        fd_fdstat_set_rights(a: i32, b: i64, c: i64);
        fd_prestat_get(a: i32, b: i32);
        fd_prestat_dir_name(a: i32, b: i32, c: i32);
        fd_renumber(a: i32, b: i32);
        fd_tell(a: i32, b: i32);
        path_link(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32);
        path_symlink(a: i32, b: i32, c: i32, d: i32, e: i32);
        proc_raise(a: i32);
        sock_shutdown(a: i32, b: i32);
    }
    link_async! { linker, module;
        fd_allocate(a: i32, b: i64, c: i64);
        fd_datasync(a: i32);
        fd_filestat_set_size(a: i32, b: i64);
        fd_filestat_set_times(a: i32, b: i64, c: i64, d: i32);
        fd_pread(a: i32, b: i32, c: i32, d: i64, e: i32);
        fd_pwrite(a: i32, b: i32, c: i32, d: i64, e: i32);
        fd_read(a: i32, b: i32, c: i32, d: i32);
        fd_readdir(a: i32, b: i32, c: i32, d: i64, e: i32);
        fd_sync(a: i32);
        fd_write(a: i32, b: i32, c: i32, d: i32);
        path_create_directory(a: i32, b: i32, c: i32);
        path_filestat_set_times(a: i32, b: i32, c: i32, d: i32, e: i64, f: i64, g: i32);
        path_open(a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32);
        path_readlink(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        path_remove_directory(a: i32, b: i32, c: i32);
        path_rename(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        path_unlink_file(a: i32, b: i32, c: i32);
        random_get(a: i32, b: i32);
        sched_yield();
        sock_recv(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
        sock_send(a: i32, b: i32, c: i32, d: i32, e: i32);
    }
    Ok(())
}
