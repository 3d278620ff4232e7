/**
 * The C library, through node:ffi: the few system calls that Node does not have. It is loaded when
 * somebody asks, and never where nobody does. errno can't be read after a call, so a call only says
 * whether it worked.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';

type Ffi = typeof import('node:ffi');

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;
const SOCKADDR_NL_BYTES = 12;
const MSG_DONTWAIT = 0x40;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const O_ASYNC = 0o20000;
/** More than the kernel puts into one message of rtnetlink. */
const NETLINK_BYTES = 32 * 1024;
const MSG_NOSIGNAL = 0x4000;
/** `struct timex` on 64-bit systems. */
const TIMEX_BYTES = 208;
/** The state of a clock that nobody keeps right. */
const TIME_ERROR = 5;
const UMOUNT_NOFOLLOW = 8;
/** Bytes of `sun_path` in `sockaddr_un`. */
const MAX_PATH_BYTES = 108;

export type Libc = {
  /** Gives free memory of the C heap back to the kernel. */
  trimHeap(): void;
  /** adjtimex: whether an NTP client has set the kernel's clock and keeps it right. */
  clockIsSynchronized(): boolean;
  /**
   * Sends one datagram to a unix socket; an address that starts with `@` is an abstract one.
   * False when nobody took it.
   */
  sendDatagram(address: string, data: string): boolean;
  /** mount(2) of a new tmpfs; `data` are its options, `flags` of `MS_…`. */
  mountTmpfs(target: string, flags: number, data: string): boolean;
  /** umount2(2) of what is on top at `target`, which is not followed where it is a link. */
  unmount(target: string): boolean;
  /**
   * A socket that the kernel tells of what happens to the network (`RTMGRP_…`). Node can't wait for
   * such a socket: this process is sent `signal` when something has come, and takes it with `drain`.
   * The caller closes it.
   */
  openRtnetlink(groups: number, signal: NodeJS.Signals): number | undefined;
  /** Takes all that has come to a socket, unseen. Does not wait. */
  drain(fd: number): void;
  /** ioctl(2) with the address of `argument`; what it returns, which is below zero where it failed. */
  ioctl(fd: number, request: number, argument: Buffer): number;
  /** Where the bytes of `buffer` lie: for a structure that points to them, while both are alive. */
  addressOf(buffer: Buffer): bigint;
};

/** Undefined on a Node without ffi, or a system without glibc under its usual name. */
export function openLibc(): Libc | undefined {
  const ffi = quietly(() => process.getBuiltinModule('node:ffi') as Ffi | undefined);
  if (ffi === undefined) return undefined;
  try {
    return bind(ffi);
  } catch {
    return undefined;
  }
}

function bind(ffi: Ffi): Libc {
  const { functions } = ffi.dlopen('libc.so.6', {
    adjtimex: { return: 'int32', arguments: ['buffer'] },
    mount: { return: 'int32', arguments: ['string', 'string', 'string', 'uint64', 'string'] },
    umount2: { return: 'int32', arguments: ['string', 'int32'] },
    // Of any number of arguments in C; Linux passes integers and pointers to such a one as to others.
    ioctl: { return: 'int32', arguments: ['int32', 'uint64', 'buffer'] },
    malloc_trim: { return: 'int32', arguments: ['uint64'] },
    socket: { return: 'int32', arguments: ['int32', 'int32', 'int32'] },
    sendto: {
      return: 'int64',
      arguments: ['int32', 'buffer', 'uint64', 'int32', 'buffer', 'uint32'],
    },
    bind: { return: 'int32', arguments: ['int32', 'buffer', 'uint32'] },
    recv: { return: 'int64', arguments: ['int32', 'buffer', 'uint64', 'int32'] },
    fcntl: { return: 'int32', arguments: ['int32', 'int32', 'int32'] },
  });
  return {
    trimHeap: () => void functions.malloc_trim(0n),
    clockIsSynchronized() {
      const state = functions.adjtimex(Buffer.alloc(TIMEX_BYTES));
      return state >= 0 && state !== TIME_ERROR;
    },
    mountTmpfs: (target, flags, data) =>
      functions.mount('tmpfs', target, 'tmpfs', BigInt(flags), data) === 0,
    unmount: (target) => functions.umount2(target, UMOUNT_NOFOLLOW) === 0,
    openRtnetlink(groups, signal) {
      const fd = functions.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
      if (fd < 0) return undefined;
      const address = Buffer.alloc(SOCKADDR_NL_BYTES);
      address.writeUInt16LE(AF_NETLINK, 0);
      address.writeUInt32LE(groups, 8);
      const isOpen =
        functions.bind(fd, address, address.length) === 0 &&
        functions.fcntl(fd, F_SETOWN, process.pid) === 0 &&
        functions.fcntl(fd, F_SETSIG, constants.signals[signal]) === 0 &&
        functions.fcntl(fd, F_SETFL, O_ASYNC) === 0;
      if (isOpen) return fd;
      closeSync(fd);
      return undefined;
    },
    drain(fd) {
      const bytes = Buffer.alloc(NETLINK_BYTES);
      while (functions.recv(fd, bytes, BigInt(bytes.length), MSG_DONTWAIT) > 0n);
    },
    ioctl: (fd, request, argument) => functions.ioctl(fd, BigInt(request), argument),
    addressOf: (buffer) => ffi.getRawPointer(buffer),
    sendDatagram(address, data) {
      const to = socketAddress(address);
      if (to === undefined) return false;
      const fd = functions.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      if (fd < 0) return false;
      try {
        const bytes = Buffer.from(data, 'utf8');
        const sent = functions.sendto(fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL, to, to.length);
        return sent === BigInt(bytes.length);
      } finally {
        closeSync(fd);
      }
    },
  };
}

/** A `sockaddr_un`; undefined when the address is none that a socket can have. */
export function socketAddress(address: string): Buffer | undefined {
  const abstract = address.startsWith('@');
  if (!abstract && !address.startsWith('/')) return undefined;
  // An abstract name starts with a zero byte and ends where the address ends; a path ends with one.
  const name = Buffer.from(abstract ? `\0${address.slice(1)}` : `${address}\0`, 'utf8');
  if (name.length > MAX_PATH_BYTES || (!abstract && name.indexOf(0) < name.length - 1)) {
    return undefined;
  }
  // Both architectures that we run on are little-endian.
  const family = Buffer.from([AF_UNIX, 0]);
  return Buffer.concat([family, name]);
}

/** Runs `load` without the warning that ffi is experimental: we pin the version of Node. */
function quietly<T>(load: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = (warning: string | Error, ...rest: unknown[]) => {
    if (rest[0] === 'ExperimentalWarning') return;
    Reflect.apply(emitWarning, process, [warning, ...rest]);
  };
  try {
    return load();
  } finally {
    process.emitWarning = emitWarning;
  }
}
