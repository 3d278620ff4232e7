// `limpet top` as a process, on a real socket, with and without a terminal.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PodUsage, UsageReport } from '../../src/node/usage.ts';
import { serveCanned } from '../server/canned.ts';
import { limpet } from './cli.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const MIB = 1024 * 1024;

function aPod(name: string, monoMs: number, coreNs: number, workingSetBytes: number): PodUsage {
  const figures = {
    monoMs,
    cpu: { usageCoreNanoSeconds: coreNs },
    memory: { usageBytes: 2 * workingSetBytes, workingSetBytes, rssBytes: MIB },
    process_stats: { process_count: 3 },
  };
  return {
    ...figures,
    podRef: { name, namespace: name === 'dns' ? 'kube-system' : 'default', uid: `uid-${name}` },
    containers: [{ ...figures, name: 'main', id: `${name}-main` }],
  };
}

function reportAt(seconds: number): UsageReport {
  const monoMs = 1000 * seconds;
  const cpu = { usageCoreNanoSeconds: 1e9 * seconds };
  const some = { total: 1, avg10: 12.5, avg60: 1, avg300: 0 };
  return {
    ...{ kind: 'UsageReport', time: '2026-11-26T00:00:00Z', depth: 'containers' },
    node: {
      ...{ monoMs, cpu, uptimeSeconds: 7200, load: [0.5, 0.25, 1] },
      capacity: { cpus: 4, memoryBytes: 1024 * MIB },
      memory: { usageBytes: 600 * MIB, workingSetBytes: 512 * MIB, psi: { some } },
    },
    pods: [
      aPod('web', monoMs, 250e6 * seconds, 64 * MIB),
      aPod('dns', monoMs, 5e6 * seconds, 128 * MIB),
    ],
  };
}

test('prints once where there is no terminal: the node, then the busiest pod first', async () => {
  await using served = await serveCanned({ usage: [reportAt(10), reportAt(12)] });
  const { code, out, err } = await limpet(['top', '--containers', '--socket', served.socket]);
  assert.equal(code, 0, err);
  assert.match(out, /^CPU: +1000m of 4 cores \(25 %\), load 0\.50 0\.25 1\.00\n/);
  assert.match(out, /^Memory: +512Mi of 1\.0Gi \(50 %\), 12\.5 % of the time something waits$/m);
  assert.match(out, /^Up: +120m, \? tasks$/m);
  assert.match(out, /^NAMESPACE +POD +CONTAINER +CPU +MEMORY +RSS +PROCS +READ\/S/m);
  assert.match(out, /^default +web +250m +64\.0Mi +1\.0Mi +3 +- +- +- +-\n +main +250m/m);
  assert.match(out, /^kube-system +dns +5\.0m +128Mi/m);
  assert.ok(out.indexOf('web') < out.indexOf('dns'));
  assert.deepEqual(served.canned.asked, ['usage containers 0', 'usage containers 250']);

  served.canned.usage = [reportAt(20), reportAt(21)];
  const args = ['top', '--sort', 'memory', '--socket', served.socket];
  const byMemory = await limpet(args);
  assert.ok(byMemory.out.indexOf('dns') < byMemory.out.indexOf('web'));
  const one = await limpet([...args, '-n', 'kube-system']);
  assert.ok(one.out.includes('dns') && !one.out.includes('web'));
});

test('json has the counters and what was used a second', async () => {
  await using served = await serveCanned({ usage: [reportAt(10), reportAt(12)] });
  const { out } = await limpet(['top', '-o', 'json', '--socket', served.socket]);
  const report = JSON.parse(out) as UsageReport;
  assert.equal(report.kind, 'UsageReport');
  assert.equal(report.pods?.[0]?.cpu?.usageNanoCores, 250e6);
  assert.equal(report.pods[0].containers?.[0]?.memory?.workingSetBytes, 64 * MIB);
});

test('volumes, the fullest first', async () => {
  const report = reportAt(10);
  const [web, dns] = report.pods as [PodUsage, PodUsage];
  const volumes = [{ name: 'config', usedBytes: 4096, availableBytes: MIB, inodesUsed: 3 }];
  const data = [{ name: 'data', usedBytes: 700 * MIB, inodesUsed: 20_000, isPartial: true }];
  const pods = [
    { ...web, volumes },
    { ...dns, volumes: data },
  ];
  await using served = await serveCanned({ usage: [{ ...report, depth: 'volumes', pods }] });
  const { out } = await limpet(['top', '--volumes', '--socket', served.socket]);
  assert.match(out, /^NAMESPACE +POD +VOLUME +USED +AVAILABLE +FILES\n/);
  assert.match(
    out,
    /^kube-system +dns +data +>700Mi +- +20000\ndefault +web +config +4\.0Ki +1\.0Mi +3$/m,
  );
  assert.equal(served.canned.asked[0], 'usage volumes 0');
});

test('what is wrong is said', async () => {
  for (const [args, said] of [
    [['--sort', 'disk'], /--sort is one of cpu, memory/],
    [['--interval', '1ms'], /--interval is from 500ms to 1h/],
    [['--once', '--watch'], /exclude one another/],
    [['--containers', '--volumes'], /exclude one another/],
    [['web'], /top takes no web/],
  ] as const) {
    const { code, err } = await limpet(['top', ...args]);
    assert.equal(code, 2);
    assert.match(err, said);
  }
  const { code } = await limpet(['top', '--socket', '/nowhere/limpet.sock']);
  assert.equal(code, 3);
});

const script = spawnSync('script', ['--version']).status === 0 ? {} : { skip: 'needs script(1)' };

test('on a terminal it draws anew until it is interrupted', script, async () => {
  const reports = Array.from({ length: 20 }, (_, index) => reportAt(10 + index));
  await using served = await serveCanned({ usage: reports });
  const line = [process.execPath, MAIN, 'top', '--interval', '500ms', '--socket', served.socket];
  const args = ['-qfec', `stty cols 60 rows 12; exec ${line.join(' ')}`, '/dev/null'];
  const child = spawn('script', args, { stdio: 'pipe' });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
  const drawings = () => out.split('\u001b[H\u001b[2J').slice(1);
  for (let tries = 0; tries < 200 && drawings().length < 4; tries++) await sleep(50);
  const ended = once(child, 'exit');
  child.stdin.write('\u0003');
  await ended;
  const [first = '', second = ''] = drawings();
  assert.match(first, /^CPU: +1000m of 4 cores/);
  assert.match(second, /default +web +250m/);
  for (const drawing of [first, second]) {
    const lines = drawing.trimEnd().split('\n');
    assert.ok(lines.length < 12 && lines.every((text) => text.trimEnd().length <= 60), drawing);
  }
  assert.ok(served.canned.asked.length >= 4);
  const asked = served.canned.asked.length;
  await sleep(800);
  assert.equal(served.canned.asked.length, asked, 'nobody asks any more');
});
