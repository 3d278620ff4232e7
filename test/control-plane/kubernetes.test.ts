import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { kubernetes, kubernetesVersion } from '../../scripts/lib/kubernetes.ts';

let folder: string;
let version: string;

/** A program that says only this, in a directory of its own. */
async function program(directory: string, name: string, says: string): Promise<string> {
  await mkdir(join(folder, directory), { recursive: true });
  await writeFile(join(folder, directory, name), `#!/bin/sh\necho "${says}"\n`, { mode: 0o755 });
  return join(folder, directory);
}

const quietly = () => undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'limpet-kubernetes-'));
  version = await kubernetesVersion();
  const old = 'go version go1.19.8 linux/amd64';
  process.env['PATH'] = `${await program('old-go', 'go', old)}:/usr/bin:/bin`;
});

beforeEach(() => {
  process.env['LIMPET_CACHE'] = join(folder, 'cache');
  delete process.env['KUBEBUILDER_ASSETS'];
});

after(async () => await rm(folder, { recursive: true }));

test('a program of the right version is taken from KUBEBUILDER_ASSETS', async () => {
  const assets = await program('assets', 'kube-apiserver', `Kubernetes ${version}`);
  await program('assets', 'kubectl', `Client Version: ${version}`);
  await program('assets', 'etcd', 'etcd Version: 3.6.8');
  process.env['KUBEBUILDER_ASSETS'] = assets;
  const found = await kubernetes(['kube-apiserver', 'kubectl', 'etcd'], quietly);
  assert.deepEqual(found, {
    'kube-apiserver': join(assets, 'kube-apiserver'),
    kubectl: join(assets, 'kubectl'),
    etcd: join(assets, 'etcd'),
  });
});

test('and from the PATH', async () => {
  const place = await program('on-path', 'kubelet', `Kubernetes ${version}`);
  process.env['PATH'] = `${place}:${process.env['PATH']}`;
  const found = await kubernetes(['kubelet'], quietly);
  assert.deepEqual(found, { kubelet: join(place, 'kubelet') });
});

test('one of another version is not taken; a Go that cannot build it says what to do', async () => {
  for (const other of [
    `Kubernetes ${version}0`,
    `Kubernetes ${version}-rc.1`,
    'Kubernetes v1.2.3',
  ]) {
    process.env['KUBEBUILDER_ASSETS'] = await program('others', 'kube-scheduler', other);
    await assert.rejects(kubernetes(['kube-scheduler'], quietly), {
      message:
        'building Kubernetes needs Go 1.26 or newer, and here is go version go1.19.8 linux/amd64; ' +
        'install a newer one, or give Go 1.21 or newer GOTOOLCHAIN=auto',
    });
  }
});
