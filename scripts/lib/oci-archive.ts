// Container images written from TypeScript, as OCI archives: no registry, no builder.
import { createHash, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { pauseProgram, type Arch } from './pause-program.ts';
import { writeTar, type TarEntry } from './tar.ts';

export type ImageLayer = {
  readonly entries: readonly TarEntry[];
  readonly compress?: boolean;
};

export type ImageConfig = {
  readonly User?: string;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly StopSignal?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
};

export type ImageDescription = {
  /** Full names with a tag, such as `docker.io/library/busybox:latest`. */
  readonly names: readonly string[];
  readonly arch: Arch;
  readonly layers: readonly ImageLayer[];
  readonly config?: ImageConfig;
};

export type Descriptor = {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
};

/** An image in parts: what an archive holds, and what a registry serves. */
export type BuiltImage = {
  readonly names: readonly string[];
  readonly arch: Arch;
  readonly manifest: Descriptor;
  /** By digest, the manifest included. */
  readonly blobs: ReadonlyMap<string, Buffer>;
};

/** Builds an image: its layers, its configuration and its manifest. */
export function buildImage(description: ImageDescription): BuiltImage {
  const blobs = new Map<string, Buffer>();
  const add = (mediaType: string, body: Buffer): Descriptor => {
    const digest = digestOf(body);
    blobs.set(digest, body);
    return { mediaType, digest, size: body.length };
  };
  const diffIds: string[] = [];
  const layers = description.layers.map((layer) => {
    const tar = writeTar(layer.entries);
    diffIds.push(digestOf(tar));
    const plain = 'application/vnd.oci.image.layer.v1.tar';
    return layer.compress === true
      ? add(`${plain}+gzip`, gzipSync(tar, { level: 1 }))
      : add(plain, tar);
  });
  const config = add(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture: description.arch,
      os: 'linux',
      config: description.config ?? {},
      rootfs: { type: 'layers', diff_ids: diffIds },
    }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = add(mediaType, json({ schemaVersion: 2, mediaType, config, layers }));
  return { names: description.names, arch: description.arch, manifest, blobs };
}

/** One OCI archive of several images; `ctr --namespace k8s.io images import` takes it. */
export function ociArchive(images: readonly BuiltImage[]): Buffer {
  const manifests = images.flatMap((image) =>
    image.names.map((name) => ({
      ...image.manifest,
      platform: { architecture: image.arch, os: 'linux' },
      annotations: {
        'io.containerd.image.name': name,
        'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1),
      },
    })),
  );
  const blobs = new Map(images.flatMap((image) => [...image.blobs]));
  return writeTar([
    { path: 'oci-layout', body: json({ imageLayoutVersion: '1.0.0' }) },
    { path: 'index.json', body: json({ schemaVersion: 2, manifests }) },
    ...[...blobs].map(([digest, body]) => ({
      path: `blobs/${digest.replace(':', '/')}`,
      body,
    })),
  ]);
}

/** The sandbox image: a static program that waits and reaps. */
export function pauseImage(arch: Arch, names: readonly string[]): BuiltImage {
  const entries = [{ path: 'pause', mode: 0o755, body: pauseProgram(arch) }];
  return buildImage({ names, arch, layers: [{ entries }], config: { Entrypoint: ['/pause'] } });
}

/**
 * A busybox image from a static busybox and the paths of its applets (`bin/ls`, …), with root and
 * a user 1000. `extra` goes into a layer of its own; `config` is laid over the usual one.
 */
export function busyboxImage(options: {
  readonly arch: Arch;
  readonly names: readonly string[];
  readonly program: Uint8Array;
  readonly applets: readonly string[];
  readonly extra?: readonly TarEntry[];
  readonly config?: ImageConfig;
}): BuiltImage {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n';
  const directories = ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'usr', 'usr/bin', 'var'];
  const entries: TarEntry[] = [
    ...directories.map((path) => ({ path: `${path}/`, kind: 'directory' as const })),
    { path: 'home/user/', kind: 'directory', uid: 1000, gid: 1000 },
    { path: 'tmp/', kind: 'directory', mode: 0o1777 },
    { path: 'etc/passwd', body: Buffer.from(passwd) },
    { path: 'etc/group', body: Buffer.from('root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n') },
    { path: 'bin/busybox', mode: 0o755, body: options.program },
    // Every applet goes to /bin: busybox looks only at the last part of its name.
    ...[...new Set(options.applets.map((path) => path.slice(path.lastIndexOf('/') + 1)))]
      .filter((name) => name !== 'busybox' && name !== '')
      .map((name) => ({ path: `bin/${name}`, kind: 'link' as const, target: 'busybox' })),
  ];
  return buildImage({
    names: options.names,
    arch: options.arch,
    layers: [{ entries }, ...(options.extra === undefined ? [] : [{ entries: options.extra }])],
    config: { Cmd: ['sh'], Env: ['PATH=/bin:/usr/bin:/sbin:/usr/sbin'], ...options.config },
  });
}

/** A file of random bytes, which no compression shrinks: a layer that takes time to pull. */
export function randomFile(path: string, sizeBytes: number): TarEntry {
  return { path, body: randomBytes(sizeBytes) };
}

function digestOf(body: Uint8Array): string {
  return `sha256:${createHash('sha256').update(body).digest('hex')}`;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
