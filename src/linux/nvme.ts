/**
 * What an NVMe drive tells of its own health, which the kernel's files do not show. The question waits
 * in the kernel for as long as the drive takes, a minute where it is sick, and nobody can be killed
 * out of it: so it is asked in a process of its own.
 * Source: Linux include/uapi/linux/nvme_ioctl.h; NVM Express Base Specification, Get Log Page.
 */
import { closeSync, openSync } from 'node:fs';
import { Failure } from '../base/failure.ts';
import { fileFailure } from './files.ts';
import type { Libc } from './libc.ts';

/** `_IOWR('N', 0x41, struct nvme_admin_cmd)` */
const NVME_IOCTL_ADMIN_CMD = 0xc048_4e41;
const COMMAND_BYTES = 72;
const GET_LOG_PAGE = 0x02;
const HEALTH_LOG = 0x02;
const ALL_NAMESPACES = 0xffff_ffff;

export const HEALTH_LOG_BYTES = 512;

/**
 * The log page "SMART / Health Information" of the drive at `path` (`/dev/nvme0`). Blocks.
 *
 * @throws Failure `NotFound`, `PermissionDenied`, …, and `Unknown` where the drive does not answer
 */
export function readHealthLog(libc: Libc, path: string): Buffer {
  const page = Buffer.alloc(HEALTH_LOG_BYTES);
  const command = healthLogCommand(libc.addressOf(page));
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw fileFailure('open', path, error);
  }
  try {
    const status = libc.ioctl(fd, NVME_IOCTL_ADMIN_CMD, command);
    if (status === 0) return page;
    const why = status < 0 ? 'is not answered' : `is refused, with status 0x${status.toString(16)}`;
    throw new Failure('Unknown', `${path}: the question for its health log ${why}`);
  } finally {
    closeSync(fd);
  }
}

/** A `struct nvme_admin_cmd`. How long it may take is left to the kernel, which resets the drive then. */
function healthLogCommand(pageAddress: bigint): Buffer {
  const command = Buffer.alloc(COMMAND_BYTES);
  command.writeUInt8(GET_LOG_PAGE, 0);
  command.writeUInt32LE(ALL_NAMESPACES, 4);
  command.writeBigUInt64LE(pageAddress, 24);
  command.writeUInt32LE(HEALTH_LOG_BYTES, 36);
  // Its length in words of four bytes, less one, and which log.
  command.writeUInt32LE(((HEALTH_LOG_BYTES / 4 - 1) << 16) | HEALTH_LOG, 40);
  return command;
}
