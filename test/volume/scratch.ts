/** Directories for tests that mount: real ones, as root, and nothing left of them afterwards. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { mountsBelow } from '../../src/linux/proc.ts';

/** A new directory, gone with all that is mounted in it when the scope ends. */
export function scratch(): Disposable & { readonly path: string } {
  assert.equal(process.getuid?.(), 0, 'these tests mount file systems: run them as root');
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'limpet-test-')));
  return {
    path,
    [Symbol.dispose]: () => {
      for (const { mountPoint } of mountsBelow(path)) execFileSync('umount', ['-n', mountPoint]);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

export function mountTmpfsAt(path: string): void {
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'tmpfs', path]);
}

export function bindAt(from: string, to: string): void {
  execFileSync('mount', ['-n', '--bind', from, to]);
}
