/** `limpet watch` as a process, and what it prints. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

export function startWatch(args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, 'watch', ...args], { stdio: 'pipe' });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (err += chunk));
  return {
    child,
    text: () => out,
    until: async (pattern: RegExp) => {
      for (let tries = 0; tries < 300 && !pattern.test(out); tries++) await sleep(50);
      assert.match(out, pattern, err);
    },
  };
}
