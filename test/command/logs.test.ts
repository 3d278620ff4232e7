import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { limpet } from './cli.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

async function logs(t: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const base = await mkdtemp(join(tmpdir(), 'limpet-logs-'));
  t.after(async () => await rm(base, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(base, path, '..'), { recursive: true });
    await writeFile(join(base, path), text);
    // The newest directory is that of the living pod.
    await utimes(join(base, path), 1, 1);
  }
  return base;
}

const one = (text: string): string => `2026-11-21T10:00:00.5Z stdout F ${text}\n`;

test('logs finds the pod, the container and the run', async (t) => {
  const root = await logs(t, {
    'default_web_u1/app/0.log': one('first run'),
    'default_web_u1/app/1.log': one('second run'),
    'default_two_u2/a/0.log': one('from a'),
    'default_two_u2/b/0.log': one('from b'),
    'x_same_u3/c/0.log': one('in x'),
    'y_same_u4/c/0.log': one('in y'),
    'default_empty_u5/c/.keep': '',
  });
  const at = ['--pod-logs-dir', root];
  const cases: [string[], number, RegExp][] = [
    [['web'], 0, /^second run\n$/],
    [['pod/web', '-p'], 0, /^first run\n$/],
    [['web', '--timestamps'], 0, /^2026-11-21T10:00:00\.5Z second run\n$/],
    [['two', '-c', 'b'], 0, /^from b\n$/],
    [['two', 'a'], 0, /^from a\n$/],
    [['same', '-n', 'y'], 0, /^in y\n$/],
    [['web', '--since', '1h', '--tail', '5'], 0, /^$/],
    [['two'], 2, /several containers: a, b\n {2}say which: limpet logs two -c a/],
    [['same'], 2, /several namespaces: x, y/],
    [['two', '-c', 'z'], 4, /no log of a container "z"\n {2}it has: a, b/],
    [['two', '-c', 'a', '-p'], 4, /no log of a previous run/],
    [['nobody'], 4, /no logs of a pod "nobody"/],
    [['empty'], 4, /no log yet/],
    [['web', '-f', '-p'], 2, /does not go on/],
    [['../web'], 2, /no name of a pod/],
  ];
  for (const [args, code, expected] of cases) {
    const ran = await limpet(['logs', ...args, ...at]);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(code === 0 ? ran.out : ran.err, expected);
  }
});

test('a large log comes out whole through a pipe that is read slowly', async (t) => {
  const lines = Array.from({ length: 40_000 }, (_, index) => `line ${index}`);
  const root = await logs(t, { 'default_big_u/app/0.log': lines.map(one).join('') });
  const args = [MAIN, 'logs', 'big', '--pod-logs-dir', root];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    out += chunk.toString('latin1');
    await pause(1);
  }
  // Not the texts: the difference of two long ones says nothing.
  assert.deepEqual(
    [out.length, out === `${lines.join('\n')}\n`],
    [lines.join('\n').length + 1, true],
  );
});

test('logs --follow shows a line when it is written, and ends with the reader', async (t) => {
  const root = await logs(t, { 'default_web_u/app/0.log': one('old') });
  const args = [MAIN, 'logs', 'web', '-f', '--pod-logs-dir', root];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const seen = async (): Promise<string> => String((await once(child.stdout, 'data'))[0]);
  assert.equal(await seen(), 'old\n');
  const next = seen();
  await appendFile(join(root, 'default_web_u/app/0.log'), one('new'));
  assert.equal(await next, 'new\n');
  child.stdout.destroy();
  const ended = once(child, 'exit');
  await appendFile(join(root, 'default_web_u/app/0.log'), one('nobody reads this'));
  assert.equal((await ended)[0], 0);
});
