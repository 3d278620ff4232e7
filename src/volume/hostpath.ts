/**
 * hostPath: a file or directory of the node, which stays when the pod goes.
 * Source: pkg/volume/hostpath/host_path.go.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, mkdir, open, stat } from 'node:fs/promises';
import { dirname, normalize } from 'node:path';

import { Failure, errnoOf } from '../base/failure.ts';
import type { HostPathType } from '../kube/pod.ts';
import { fileFailure } from '../linux/files.ts';
import type { VolumePlugin } from './plugin.ts';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;

type Check = {
  readonly what: string;
  readonly is: (found: Stats) => boolean;
  /** How to have it made, for those that can be. */
  readonly create?: HostPathType;
};

const DIRECTORY: Check = {
  what: 'a directory',
  is: (found) => found.isDirectory(),
  create: 'DirectoryOrCreate',
};
const FILE: Check = { what: 'a file', is: (found) => found.isFile(), create: 'FileOrCreate' };

const CHECKS: { readonly [T in HostPathType]: Check | undefined } = {
  // Nothing is checked, and the runtime makes a directory of what is not there.
  '': undefined,
  DirectoryOrCreate: DIRECTORY,
  Directory: DIRECTORY,
  FileOrCreate: FILE,
  File: FILE,
  Socket: { what: 'a socket file', is: (found) => found.isSocket() },
  CharDevice: { what: 'a character device', is: (found) => found.isCharacterDevice() },
  BlockDevice: { what: 'a block device', is: (found) => found.isBlockDevice() },
};

export const hostPath: VolumePlugin<'hostPath'> = {
  kind: 'hostPath',

  async setUp(_context, { name, path, type }) {
    const bad = !path.startsWith('/') || path.split('/').includes('..') || path.includes('\0');
    if (bad) {
      throw new Failure(
        'InvalidArgument',
        `volume ${name}: hostPath.path ${JSON.stringify(path)} must be an absolute path ` +
          'without ".."',
      );
    }
    const check = CHECKS[type];
    if (check === undefined) return { hostPath: path };
    let found = await look(path);
    if (found === undefined && type === 'DirectoryOrCreate') {
      await makeDirectories(path);
      found = await look(path);
    } else if (found === undefined && type === 'FileOrCreate') {
      await makeFile(path);
      found = await look(path);
    }
    if (found === undefined || !check.is(found)) throw wrongType(path, check, found);
    return { hostPath: path };
  },

  async tearDown() {
    // It is the node's, not the pod's.
  },
};

/** What is there, links followed; undefined when nothing is. */
async function look(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fileFailure('look at hostPath', path, error);
  }
}

async function makeDirectories(path: string): Promise<void> {
  try {
    const whole = normalize(path).replace(/\/+$/, '');
    const first = await mkdir(whole, { recursive: true, mode: DIRECTORY_MODE });
    if (first === undefined) return;
    // The agent's umask is strict, and what it made here is for others to use.
    for (let made = whole; ; made = dirname(made)) {
      await chmod(made, DIRECTORY_MODE);
      if (made.length <= first.length) return;
    }
  } catch (error) {
    throw fileFailure('make hostPath', path, error);
  }
}

async function makeFile(path: string): Promise<void> {
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NONBLOCK;
    const file = await open(path, flags, FILE_MODE);
    try {
      await file.chmod(FILE_MODE);
    } finally {
      await file.close();
    }
  } catch (error) {
    // Somebody else was faster: what they made is checked next.
    if (errnoOf(error) === 'EEXIST') return;
    throw fileFailure('make hostPath', path, error);
  }
}

function wrongType(path: string, check: Check, found: Stats | undefined): Failure {
  const create = check.create === undefined ? '' : `, or set type: ${check.create}`;
  const hint =
    found === undefined
      ? `it does not exist; make it on the node${create}`
      : 'something else is there; correct path or type of the volume';
  return new Failure(
    found === undefined ? 'NotFound' : 'AlreadyExists',
    `hostPath type check failed: ${path} is not ${check.what}: ${hint}`,
  );
}
