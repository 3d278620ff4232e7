/** All commands, in the order of the help. Each is loaded only when it is asked for. */
import type { Command } from './command.ts';

export type Entry = {
  readonly name: string;
  readonly summary: string;
  load(): Promise<Command>;
};

/** What the agent starts for itself. */
export const HIDDEN: readonly Entry[] = [
  {
    name: 'inventory',
    summary: 'Print what the machine is made of',
    load: async () => (await import('./inventory.ts')).command,
  },
  {
    name: 'drives',
    summary: 'Print what NVMe drives say of their health',
    load: async () => (await import('./drives.ts')).command,
  },
];

export const COMMANDS: readonly Entry[] = [
  {
    name: 'run',
    summary: 'Run the agent (systemd does this)',
    load: async () => (await import('./run.ts')).command,
  },
  {
    name: 'status',
    summary: 'How this node and its pods are',
    load: async () => (await import('./status.ts')).command,
  },
  {
    name: 'pods',
    summary: 'List pods, or tell everything about one',
    load: async () => (await import('./pods.ts')).command,
  },
  {
    name: 'top',
    summary: 'What the node, its pods and containers use, live',
    load: async () => (await import('./top.ts')).command,
  },
  {
    name: 'logs',
    summary: 'Print the log of a container',
    load: async () => (await import('./logs.ts')).command,
  },
  {
    name: 'events',
    summary: 'List what happened to pods, manifests and the node',
    load: async () => (await import('./events.ts')).command,
  },
  {
    name: 'apply',
    summary: 'Take pods from a manifest, to stay until they are deleted',
    load: async () => (await import('./apply.ts')).command,
  },
  {
    name: 'delete',
    summary: 'Delete a pod that was applied',
    load: async () => (await import('./delete.ts')).command,
  },
  {
    name: 'doctor',
    summary: 'Check this machine, and say what to do about what is wrong',
    load: async () => (await import('./doctor.ts')).command,
  },
  {
    name: 'watch',
    summary: 'Show all boards of a fleet, from MQTT alone',
    load: async () => (await import('./watch.ts')).command,
  },
  {
    name: 'config',
    summary: 'Print the configuration, and where each value is from',
    load: async () => (await import('./config.ts')).command,
  },
  {
    name: 'version',
    summary: 'Print the version',
    load: async () => (await import('./version.ts')).command,
  },
];
