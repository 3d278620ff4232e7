/** The agent as a process of its own, told by files what to do. There is no container runtime. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeReport } from '../../src/server/api.ts';
import { limpet } from './cli.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const POD = `apiVersion: v1
kind: Pod
metadata: { name: web }
spec: { containers: [{ name: a, image: nginx }] }
`;

/** Runs the agent until its status is as it should be, and ends it. */
async function runUntil(
  folder: string,
  args: readonly string[],
  isSo: (report: NodeReport) => boolean,
): Promise<NodeReport> {
  const socket = join(folder, 'run/limpet.sock');
  const places = [`--root-dir=${folder}/root`, `--run-dir=${folder}/run`];
  const child = spawn(process.execPath, [MAIN, 'run', ...places, ...args], { stdio: 'ignore' });
  try {
    for (let tries = 0; tries < 60; tries += 1) {
      const { code, out } = await limpet(['status', '--socket', socket, '-o', 'json']);
      const report = code === 0 ? (JSON.parse(out) as NodeReport) : undefined;
      if (report !== undefined && isSo(report)) return report;
      await sleep(250);
    }
    throw new Error('the status never was as it should be');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

test('a configuration without a folder of static pods ends those that were', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'limpet-run-'));
  try {
    const endpoint = `unix://${folder}/no.sock`;
    mkdirSync(join(folder, 'manifests'));
    writeFileSync(join(folder, 'manifests/web.yaml'), POD);
    const args = [`--pod-manifest-path=${folder}/manifests`, `--pod-logs-dir=${folder}/logs`];
    await runUntil(
      folder,
      [...args, `--container-runtime-endpoint=${endpoint}`],
      ({ pod }) => pod.length === 1 && !pod[0]!.deleting,
    );
    const config = [
      'apiVersion: kubelet.config.k8s.io/v1beta1',
      'kind: KubeletConfiguration',
      'kubeAPIBurst: 5',
      `podLogsDir: ${folder}/logs`,
      `containerRuntimeEndpoint: ${endpoint}`,
    ];
    writeFileSync(join(folder, 'config.yaml'), config.join('\n'));
    const report = await runUntil(
      folder,
      [`--config=${folder}/config.yaml`],
      ({ pod }) => pod[0]?.deleting === true,
    );
    const said = report.findings.find(({ check }) => check === 'configuration');
    assert.match(said?.message ?? '', /^kubeAPIBurst: without effect, /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
