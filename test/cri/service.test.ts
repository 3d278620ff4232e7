import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { decode, encode } from '../../src/cri/codec.ts';
import { createImageService } from '../../src/cri/image.ts';
import { open, socketPath } from '../../src/cri/open.ts';
import { createRuntimeService, createStreamingService } from '../../src/cri/runtime.ts';
import * as schema from '../../src/cri/schema.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/kube/cri.ts';
import { createPeer, refuse, respond, type Call } from './peer.ts';

const never = new AbortController().signal;
const options = { clock: systemClock('boot-1', () => 0), random: seededRandom(1) };

const sandbox: PodSandboxConfig = {
  metadata: { name: 'web', uid: 'u-1', namespace: 'default', attempt: 1 },
  hostname: 'web',
  logDirectory: '/var/log/pods/default_web_u-1',
  dnsConfig: { servers: ['10.0.0.1'], searches: [], options: ['ndots:5'] },
  portMappings: [{ protocol: 'UDP', containerPort: 53, hostPort: 5353 }],
  labels: { 'io.kubernetes.pod.uid': 'u-1' },
  annotations: {},
  linux: {
    cgroupParent: '/kubepods/podu-1',
    securityContext: {
      namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' },
      runAsUser: 0,
      readonlyRootfs: false,
      supplementalGroups: [5],
      privileged: false,
      seccomp: { profileType: 'RuntimeDefault' },
    },
    sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0' },
  },
};

const container: ContainerConfig = {
  metadata: { name: 'c', attempt: 2 },
  image: { image: 'sha256:1', userSpecifiedImage: 'nginx' },
  command: ['/bin/sh'],
  args: ['-c', ''],
  workingDir: '',
  envs: [{ key: 'NAME', value: 'größe' }],
  mounts: [
    { containerPath: '/d', hostPath: '/h', readonly: true, propagation: 'HOST_TO_CONTAINER' },
  ],
  labels: {},
  annotations: {},
  logPath: 'c/2.log',
  stdin: false,
  stdinOnce: false,
  tty: false,
  linux: {
    resources: {
      cpuPeriod: 100_000,
      cpuQuota: 0,
      cpuShares: 2,
      memoryLimitInBytes: 0,
      oomScoreAdj: -997,
      unified: { 'memory.oom.group': '1' },
    },
    securityContext: {
      capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] },
      privileged: false,
      namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
      runAsUser: 1000,
      readonlyRootfs: true,
      supplementalGroups: [],
      noNewPrivs: true,
      maskedPaths: ['/proc/kcore'],
      readonlyPaths: [],
      seccomp: { profileType: 'Unconfined' },
    },
  },
};

test('a container is created with all that its configuration says', async () => {
  await using peer = await createPeer();
  peer.answer = (call) =>
    respond(call, [encode(schema.CreateContainerResponse, { containerId: 'c-1' })]);
  const runtime = createRuntimeService(peer.channel());
  assert.equal(await runtime.createContainer('s-1', container, sandbox, never), 'c-1');
  const request = decode(schema.CreateContainerRequest, peer.calls[0]!.request);
  assert.equal(request.podSandboxId, 's-1');
  assert.deepEqual(request.config, {
    ...container,
    envs: [{ key: 'NAME', value: Buffer.from('größe') }],
    mounts: [
      {
        containerPath: '/d',
        hostPath: '/h',
        readonly: true,
        propagation: 'PROPAGATION_HOST_TO_CONTAINER',
      },
    ],
    linux: {
      resources: container.linux.resources,
      securityContext: {
        ...container.linux.securityContext,
        capabilities: { addCapabilities: ['NET_ADMIN'], dropCapabilities: ['ALL'] },
        runAsGroup: undefined,
        runAsUsername: '',
        seccomp: { profileType: 'Unconfined', localhostRef: '' },
      },
    },
  });
  assert.deepEqual(request.sandboxConfig, {
    ...sandbox,
    portMappings: [{ protocol: 'UDP', containerPort: 53, hostPort: 5353, hostIp: '' }],
    linux: {
      ...sandbox.linux,
      securityContext: {
        ...sandbox.linux.securityContext,
        runAsGroup: undefined,
        seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
      },
    },
  });
});

test('a stream is asked for with all that the request says, and the answer is where it is', async () => {
  await using peer = await createPeer();
  const streaming = createStreamingService(peer.channel());
  const url = 'http://127.0.0.1:41000/exec/token';
  const selection = { stdin: true, stdout: true, stderr: false, tty: true };
  peer.answer = (call) => respond(call, [encode(schema.ExecResponse, { url })]);
  const exec = { containerId: 'c-1', cmd: ['sh', '-c', ''], ...selection };
  assert.equal(await streaming.exec(exec, never), url);
  assert.deepEqual(decode(schema.ExecRequest, peer.calls[0]!.request), exec);
  peer.answer = (call) => respond(call, [encode(schema.AttachResponse, { url })]);
  const attach = { containerId: 'c-1', ...selection };
  assert.equal(await streaming.attach(attach, never), url);
  assert.deepEqual(decode(schema.AttachRequest, peer.calls[1]!.request), attach);
  peer.answer = (call) => respond(call, [encode(schema.PortForwardResponse, { url })]);
  assert.equal(await streaming.portForward('s-1', [80, 65535], never), url);
  const forward = { podSandboxId: 's-1', port: [80, 65535] };
  assert.deepEqual(decode(schema.PortForwardRequest, peer.calls[2]!.request), forward);
  peer.answer = (call) => refuse(call, 5, 'no such container');
  await assert.rejects(streaming.exec(exec, never), { code: 'NotFound' });
});

test('what is gone already is stopped and removed, and there is nothing to see of it', async () => {
  await using peer = await createPeer();
  peer.answer = (call) => refuse(call, 5, 'not found');
  const channel = peer.channel();
  const runtime = createRuntimeService(channel);
  const images = createImageService(channel);
  await runtime.stopContainer('x', 30, never);
  await runtime.removeContainer('x', never);
  await runtime.stopPodSandbox('x', never);
  await runtime.removePodSandbox('x', never);
  await images.removeImage('x', never);
  assert.equal(await runtime.containerStatus('x', never), undefined);
  assert.equal(await runtime.podSandboxStatus('x', never), undefined);
  assert.equal(await images.imageStatus('x', never), undefined);
  await assert.rejects(runtime.startContainer('x', never), { code: 'NotFound' });
  await assert.rejects(images.pullImage('x', undefined, undefined, never), { code: 'NotFound' });
});

test('the deadlines: grace is added, a pull has none', async () => {
  await using peer = await createPeer();
  const timeouts = new Map<string, string | undefined>();
  peer.answer = (call) => {
    const { ':path': path, 'grpc-timeout': timeout } = call.headers;
    timeouts.set(String(path).replace(/^.*\//, ''), timeout as string | undefined);
    refuse(call, 13, 'no');
  };
  const channel = peer.channel();
  const runtime = createRuntimeService(channel);
  const ignore = () => undefined;
  await runtime.stopContainer('x', 30.2, never).catch(ignore);
  await runtime.listContainers(undefined, never).catch(ignore);
  await runtime.runPodSandbox(sandbox, never).catch(ignore);
  await runtime.startContainer('x', never).catch(ignore);
  await createImageService(channel)
    .pullImage('x', sandbox, { username: 'u', password: 'p' }, never)
    .catch(ignore);
  assert.deepEqual(Object.fromEntries(timeouts), {
    StopContainer: '151000m',
    ListContainers: '30000m',
    RunPodSandbox: '240000m',
    StartContainer: '120000m',
    PullImage: undefined,
  });
  const [stop] = peer.calls;
  assert.deepEqual(decode(schema.StopContainerRequest, stop!.request), {
    containerId: 'x',
    timeout: 31,
  });
});

test('lists are of one pod or of all', async () => {
  await using peer = await createPeer();
  const runtime = createRuntimeService(peer.channel());
  peer.answer = (call) =>
    respond(call, [
      encode(schema.ListContainersResponse, {
        containers: [
          {
            id: 'a',
            metadata: { name: 'n', attempt: 3 },
            state: 'CONTAINER_EXITED',
            createdAt: 5n,
          },
        ],
      }),
    ]);
  assert.deepEqual(await runtime.listContainers('u-1', never), [
    {
      id: 'a',
      podSandboxId: '',
      name: 'n',
      attempt: 3,
      state: 'CONTAINER_EXITED',
      createdAt: 5n,
      imageRef: '',
      labels: {},
      annotations: {},
    },
  ]);
  const { filter } = decode(schema.ListContainersRequest, peer.calls[0]!.request);
  assert.deepEqual(filter, { labelSelector: { 'io.kubernetes.pod.uid': 'u-1' } });
  await runtime.listContainers(undefined, never);
  assert.equal(peer.calls[1]!.request.length, 0);
});

test('the cgroup driver, also where the runtime has no word for it', async () => {
  await using peer = await createPeer();
  const runtime = createRuntimeService(peer.channel());
  const answer = (bytes: Buffer) => (peer.answer = (call: Call) => respond(call, [bytes]));
  answer(encode(schema.RuntimeConfigResponse, { linux: { cgroupDriver: 'CGROUPFS' } }));
  assert.equal(await runtime.cgroupDriver(never), 'cgroupfs');
  answer(encode(schema.RuntimeConfigResponse, { linux: {} }));
  assert.equal(await runtime.cgroupDriver(never), 'systemd');
  answer(Buffer.alloc(0));
  assert.equal(await runtime.cgroupDriver(never), undefined);
  peer.answer = (call) =>
    refuse(call, 12, 'unknown method RuntimeConfig for service runtime.v1.RuntimeService');
  assert.equal(await runtime.cgroupDriver(never), undefined);
});

test('events tell their pod, and unknown kinds are left out', async () => {
  await using peer = await createPeer();
  const event = (type: string, uid?: string) =>
    encode(schema.ContainerEventResponse, {
      containerId: 'a',
      containerEventType: type as 'CONTAINER_STOPPED_EVENT',
      createdAt: 7n,
      ...(uid === undefined ? {} : { podSandboxStatus: { metadata: { uid } } }),
    });
  peer.answer = (call) =>
    respond(call, [
      event('CONTAINER_STOPPED_EVENT', 'u-1'),
      event('CONTAINER_CREATED_EVENT'),
      Buffer.from('0a01611009', 'hex'),
    ]);
  const seen: unknown[] = [];
  await createRuntimeService(peer.channel()).containerEvents((e) => seen.push(e), never);
  assert.deepEqual(seen, [
    { containerId: 'a', type: 'CONTAINER_STOPPED_EVENT', createdAt: 7n, podUid: 'u-1' },
    { containerId: 'a', type: 'CONTAINER_CREATED_EVENT', createdAt: 7n },
  ]);
});

test('addresses of sockets', () => {
  assert.equal(
    socketPath('unix:///run/containerd/containerd.sock'),
    '/run/containerd/containerd.sock',
  );
  assert.equal(socketPath('unix:/run/crio/crio.sock'), '/run/crio/crio.sock');
  assert.equal(socketPath('/run/x'), '/run/x');
  for (const bad of [
    '',
    'run/x',
    'tcp://localhost:1',
    'unix://',
    'unix://run/x',
    'http:///x',
    '/a\0b',
  ]) {
    assert.throws(() => socketPath(bad), { code: 'InvalidArgument' }, bad);
  }
});

test('the epoch changes with each start of the runtime, and with nothing else', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'limpet-epoch-'));
  const path = join(dir, 's');
  const runtime = open(`unix://${path}`, options);
  const listen = async () => {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return server;
  };
  try {
    assert.equal(runtime.epoch(), undefined);
    const server = await listen();
    const first = runtime.epoch();
    assert.match(String(first), /^boot-1:\d+:\d+$/);
    chmodSync(path, 0o600);
    const client = net.connect(path);
    await new Promise((resolve) => client.once('connect', resolve));
    client.destroy();
    assert.equal(runtime.epoch(), first);
    await new Promise((resolve) => server.close(resolve));
    const again = await listen();
    assert.notEqual(runtime.epoch(), first);
    again.close();
    await new Promise((resolve) => again.once('close', resolve));
  } finally {
    await runtime[Symbol.asyncDispose]();
    try {
      unlinkSync(path);
    } catch {
      // The server has done it.
    }
    rmSync(dir, { recursive: true });
  }
});
