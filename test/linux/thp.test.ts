import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

import { parseHugePages, restartWithout } from '../../src/linux/thp.ts';

const self = {
  execPath: '/usr/bin/node',
  argv: ['/usr/bin/node', '/opt/main.ts', 'run', '--x'],
  execArgv: ['--max-semi-space-size=1'],
  singleBinary: false,
  env: { PATH: '/bin', EMPTY: undefined, NOTIFY_SOCKET: '/run/n' },
};

test('the setting is the word in brackets', () => {
  assert.equal(parseHugePages('[always] madvise never\n'), 'always');
  assert.equal(parseHugePages('always [madvise] never\n'), 'madvise');
  assert.equal(parseHugePages('always madvise [never]\n'), 'never');
  assert.equal(parseHugePages(''), 'absent');
});

test('only `always` makes for a restart, and only for one', () => {
  assert.equal(restartWithout('madvise', self), undefined);
  assert.equal(restartWithout('never', self), undefined);
  assert.equal(restartWithout('absent', self), undefined);
  const restart = restartWithout('always', self);
  assert.deepEqual(restart, {
    args: ['/usr/bin/node', '--max-semi-space-size=1', '/opt/main.ts', 'run', '--x'],
    env: { PATH: '/bin', NOTIFY_SOCKET: '/run/n', LIMPET_HUGE_PAGES_OFF: '1' },
  });
  assert.equal(restartWithout('always', { ...self, env: restart.env }), undefined);
});

test('a single binary passes on its arguments alone', () => {
  const argv = ['limpet', '/usr/bin/limpet', 'run', '--x'];
  const single = { ...self, argv, execPath: '/usr/bin/limpet', singleBinary: true };
  assert.deepEqual(restartWithout('always', single)?.args, ['limpet', 'run', '--x']);
});

test('the refusal holds across the new start, under the same pid', () => {
  const libc = JSON.stringify(join(import.meta.dirname, '../../src/linux/libc.ts'));
  const program = `
    import { readFileSync } from 'node:fs';
    import { openLibc } from ${libc};
    const line = /^THP_enabled:.*$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[0];
    console.log(process.pid, line, process.env.AGAIN ?? '');
    if (process.env.AGAIN === undefined) {
      if (!openLibc().disableHugePages()) throw new Error('prctl failed');
      const args = ['--input-type=module', '--eval', process.execArgv.at(-1)];
      process.execve(process.execPath, [process.argv[0], ...args], { AGAIN: 'again' });
    }`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { encoding: 'utf8' },
  );
  const [first, second] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.trim());
  const pid = first?.split(' ')[0] ?? '';
  assert.equal(first, `${pid} THP_enabled:\t1`, stderr);
  assert.equal(second, `${pid} THP_enabled:\t0 again`, stderr);
});
