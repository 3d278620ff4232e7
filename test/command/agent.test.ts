// The commands that ask the agent, as separate processes, on a real socket.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LIMITS } from '../../src/base/limits.ts';
import type { BoardCondition } from '../../src/node/board.ts';
import { ApiError } from '../../src/server/api.ts';
import { aReport, aStatus, serveCanned } from '../server/canned.ts';
import { limpet } from './cli.ts';

const crashed = aStatus('app', {
  ready: false,
  restartCount: 4,
  state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 2m40s' } },
  lastState: {
    terminated: {
      exitCode: 3,
      reason: 'Error',
      message: 'no \u001b[31mconfig\nfile',
      finishedAt: '2026-11-21T10:05:00Z',
    },
  },
});

const overheated: BoardCondition = {
  type: 'Overheated',
  status: 'True',
  reason: 'TooHot',
  message: '82.3 °C',
  since: '2026-11-21T10:00:00Z',
};

test('status shows the node, its findings, bad manifests and the pods', async () => {
  await using served = await serveCanned({
    pods: [
      aReport('web'),
      aReport('db', { namespace: 'app', summary: 'CrashLoopBackOff', statuses: [crashed] }),
    ],
    node: {
      cluster: {
        ...{ kubeconfig: '/etc/kubernetes/kubelet.conf', phase: 'offline', registered: true },
        ...{ server: 'https://10.0.0.1:6443', since: '2026-11-21T10:00:00Z' },
        certificateExpires: '2027-01-01T00:00:00Z',
      },
      board: {
        facts: { model: 'Raspberry Pi 4 Model B Rev 1.5' },
        figures: [{ name: 'temperature_celsius', value: 82.3, of: 'cpu-thermal' }],
        conditions: [overheated, { ...overheated, type: 'Throttled', status: 'False' }],
        troubles: ["/sys/class/thermal/thermal_zone1/temp can't be: -274 is not within -55 to 150"],
      },
      findings: [
        { check: 'clock', health: 'ok', message: 'not to be shown' },
        { check: 'store', health: 'degraded', message: 'restored', remedy: 'check the card' },
      ],
      manifestErrors: [{ path: '/etc/kubernetes/manifests/a.yaml', message: 'spec: is missing' }],
    },
  });
  const { code, out } = await limpet(['status', '--socket', served.socket]);
  assert.equal(code, 0);
  assert.match(out, /^Node: +pi-1\n/);
  assert.match(out, /Runtime: +containerd 2\.1\.9, connected, network ready/);
  assert.match(out, /Cluster: +https:\/\/10\.0\.0\.1:6443, OFFLINE for .*, node registered, cert/);
  assert.match(out, /Board: +Raspberry Pi 4 Model B Rev 1\.5, 82 °C, 1 WRONG\n/);
  assert.match(out, /^Overheated +True +\S+ +82\.3 °C$/m);
  assert.ok(!out.includes('Throttled'));
  assert.match(out, /^What the kernel says .*:\n {2}\/sys\/class.*: -274 is not within/m);
  assert.match(out, /degraded {2}store: restored\n +-> check the card/);
  assert.match(out, /a\.yaml +spec: is missing/);
  assert.match(out, /NAMESPACE +NAME +READY +STATUS +RESTARTS +AGE +IP +SOURCE\n/);
  assert.match(out, /app +db +0\/1 +CrashLoopBackOff +4 \(.+ ago\)/);
  assert.ok(out.indexOf('db ') < out.indexOf('web '), 'in the order of namespace and name');
  assert.ok(!out.includes('not to be shown'));
  const json = await limpet(['status', '--socket', served.socket, '--output', 'json']);
  assert.equal((JSON.parse(json.out) as { nodeName: string }).nodeName, 'pi-1');
});

test('pods lists, filters, and tells everything about one', async () => {
  await using served = await serveCanned({
    pods: [
      aReport('web'),
      aReport('web', {
        namespace: 'shop',
        uid: 'u2',
        statuses: [crashed],
        summary: 'CrashLoopBackOff',
      }),
    ],
    events: [
      {
        type: 'Warning',
        reason: 'BackOff',
        message: 'back-off restarting',
        object: { kind: 'Pod', namespace: 'shop', name: 'web', uid: 'u2' },
        firstWallMs: Date.now() - 300_000,
        lastWallMs: Date.now() - 5000,
        count: 4,
      },
    ],
  });
  const at = ['--socket', served.socket];
  const wide = await limpet(['get', 'pods', '-A', '-o', 'wide', ...at]);
  assert.match(wide.out, /shop +web .* u2 +BestEffort +example\/app:1/);
  const one = await limpet(['pods', '-n', 'shop', ...at]);
  assert.equal(one.out.trim().split('\n').length, 2);
  const both = await limpet(['pods', 'web', ...at]);
  assert.equal(both.code, 2);
  assert.match(both.err, /several namespaces: default, shop/);
  const detail = await limpet(['describe', 'pod', 'web', '-n', 'shop', ...at]);
  assert.equal(detail.code, 0, detail.err);
  assert.match(detail.out, /State: +Waiting: CrashLoopBackOff\n +Message: +back-off 2m40s/);
  assert.match(
    detail.out,
    /Last state: +Terminated: Error, exit code 3\n +Message: +no \?\[31mconfig file/,
  );
  assert.match(detail.out, /80\/TCP on host port 8080/);
  assert.match(detail.out, /\(x4 over 5m\d*s?\) +Warning +BackOff +back-off restarting/);
  const json = await limpet(['pods', 'web', '-n', 'shop', '-o', 'json', ...at]);
  assert.equal((JSON.parse(json.out) as { kind: string }).kind, 'PodReport');
  const missing = await limpet(['pods', 'wbe', ...at]);
  assert.equal(missing.code, 4);
  assert.match(missing.err, /there is no pod "wbe"\n {2}did you mean "web"\?/);
});

test('events asks for one pod', async () => {
  await using served = await serveCanned();
  const { code, out } = await limpet(['events', 'web', '-n', 'x', '--socket', served.socket]);
  assert.deepEqual([code, out], [0, 'No events.\n']);
  assert.deepEqual(served.canned.asked, ['events {"namespace":"x","name":"web"}']);
});

test('apply sends each file, and one bad file does not keep the others back', async (t) => {
  const base = await mkdtemp(join(tmpdir(), 'limpet-apply-'));
  t.after(async () => await rm(base, { recursive: true, force: true }));
  await using served = await serveCanned();
  const at = ['--socket', served.socket];
  const file = join(base, 'a.yaml');
  await writeFile(file, 'kind: Pod # a\n');
  const done = await limpet(['apply', '-f', file, '-f', '-', ...at], {
    input: 'kind: Pod # stdin\n',
  });
  assert.deepEqual([done.code, done.err], [0, '']);
  assert.equal(done.out, 'pod/web created\npod/web created\n');
  assert.deepEqual(served.canned.manifests, ['kind: Pod # a\n', 'kind: Pod # stdin\n']);

  const problems = ['spec.containers[0].image: is missing', 'manifest:7: spec.foo: is not known'];
  served.canned.applyError = new ApiError(400, {
    reason: 'Invalid',
    message: '2 problems',
    problems,
  });
  const mixed = await limpet(['apply', '-f', file, '-f', file, ...at]);
  assert.equal(mixed.code, 1);
  assert.equal(mixed.out, 'pod/web created\n');
  assert.ok(mixed.err.includes(file));
  assert.ok(mixed.err.includes(`  ${problems[0]}\n`), mixed.err);
  assert.ok(mixed.err.includes(`  ${file}:7: spec.foo: is not known\n`), mixed.err);

  const large = join(base, 'large');
  await writeFile(large, Buffer.alloc(LIMITS.manifestBytes + 1, 0x61));
  for (const [path, expected] of [
    [join(base, 'missing'), /there is no such file/],
    [base, /is a directory/],
    [large, /larger than 1048576 bytes/],
  ] as const) {
    const refused = await limpet(['apply', '-f', path, ...at]);
    assert.equal(refused.code, 1, path);
    assert.match(refused.err, expected);
  }
  const json = await limpet(['apply', '-f', file, '-o', 'json', ...at]);
  assert.equal((JSON.parse(json.out) as { kind: string }).kind, 'ApplyReport');
});

test('delete hands on the grace period, and looks all names up before it deletes one', async () => {
  await using served = await serveCanned({
    pods: ['a', 'b', 'c', 'd'].map((name) => aReport(name)),
  });
  const at = ['--socket', served.socket];
  const typo = await limpet(['delete', 'pod', 'a', 'bb', ...at]);
  assert.equal(typo.code, 4);
  assert.deepEqual(served.canned.asked, []);
  const plain = await limpet(['delete', 'pod', 'a', ...at]);
  assert.deepEqual([plain.code, plain.out], [0, 'pod "a" deleted\n']);
  await limpet(['delete', 'pod/b', '--now', '--wait', ...at]);
  const last = await limpet(['delete', 'po', 'c', 'd', '--grace-period', '0', '-ojson', ...at]);
  assert.equal((JSON.parse(last.out) as { items: unknown[] }).items.length, 2);
  assert.deepEqual(served.canned.asked, [
    'delete default/a -',
    'delete default/b 1',
    'delete default/c 0',
    'delete default/d 0',
  ]);
});

test('without an agent it ends with 3 and says what to do', async (t) => {
  const base = await mkdtemp(join(tmpdir(), 'limpet-none-'));
  t.after(async () => await rm(base, { recursive: true, force: true }));
  const path = join(base, 'limpet.sock');
  for (const args of [
    ['status'],
    ['pods'],
    ['events'],
    ['delete', 'pod', 'x'],
    ['apply', '-f', '-'],
  ]) {
    const { code, out, err } = await limpet([...args, '--socket', path]);
    assert.equal(code, 3, args.join(' '));
    assert.equal(out, '');
    assert.match(err, /agent is not running[^]*systemctl status limpet[^]*journalctl -u limpet/);
  }
  const stranger = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end('220 mail.example.com\r\n');
  });
  await new Promise<void>((resolve) => stranger.listen(path, resolve));
  const strange = await limpet(['status', '--socket', path]);
  stranger.close();
  assert.equal(strange.code, 3);
  assert.match(strange.err, /no answer from/);
});

test('a user who may not talk to the agent is told to use sudo', async () => {
  await using served = await serveCanned();
  const main = join(import.meta.dirname, '../../src/main.ts');
  const args = [main, 'status', '--socket', served.socket];
  const root = process.getuid?.() === 0;
  // Root may everything, so somebody else asks; who is not root is shut out of the directory.
  if (!root) await chmod(served.directory, 0o000);
  const ran = spawnSync(process.execPath, args, {
    ...(root ? { uid: 65534, gid: 65534 } : {}),
    encoding: 'utf8',
  });
  await chmod(served.directory, 0o700);
  assert.equal(ran.status, 3, ran.stderr);
  assert.match(ran.stderr, /you may not use .*sudo/s);
});
