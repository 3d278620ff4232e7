/**
 * Slices made through systemd, so that it knows them and does not take them away.
 * Source: org.freedesktop.systemd1(5), and what the kubelet's library asks for.
 */
import { Failure } from '../base/failure.ts';
import { callOnce, type Argument, type BusAddress, type Property } from './dbus.ts';
import type { Settings } from './settings.ts';

/** systemd's own socket works without a bus, which small images leave out. */
const ADDRESSES: readonly BusAddress[] = [
  { path: '/run/systemd/private', bus: false },
  { path: '/run/dbus/system_bus_socket', bus: true },
];
const CALL_TIMEOUT_MS = 25_000;

export type Systemd = {
  /** Starts the slice, or gives a running one these settings. */
  ensureSlice(name: string, settings: Settings, signal: AbortSignal): Promise<void>;
  /** Stops the slice and all in it. Not there is success. */
  stopSlice(name: string, signal: AbortSignal): Promise<void>;
};

/** @param uid The user we are: root, outside of tests. */
export function createSystemd(uid: number, addresses = ADDRESSES): Systemd {
  const call = async (member: string, args: readonly Argument[], signal: AbortSignal) => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]);
    let failure: unknown;
    for (const address of addresses) {
      try {
        return await callOnce(address, uid, { ...MANAGER, member, args }, limited);
      } catch (error) {
        if (limited.aborted && !signal.aborted) {
          throw new Failure('DeadlineExceeded', `systemd gave no answer to ${member}`);
        }
        if (limited.aborted) throw error;
        failure ??= error;
      }
    }
    throw failure;
  };

  return {
    async ensureSlice(name, settings, signal) {
      const properties = sliceProperties(name, settings);
      const started = await call(
        'StartTransientUnit',
        [
          { type: 's', value: name },
          { type: 's', value: 'replace' },
          { type: 'a(sv)', value: properties },
          { type: 'a(sa(sv))', value: [] },
        ],
        signal,
      );
      if (started.error === undefined) return;
      if (started.error !== UNIT_EXISTS) throw refused('start', name, started);
      const set = await call(
        'SetUnitProperties',
        [
          { type: 's', value: name },
          // At run time only: nothing is written to the disk.
          { type: 'b', value: true },
          { type: 'a(sv)', value: settingProperties(settings) },
        ],
        signal,
      );
      if (set.error !== undefined) throw refused('change', name, set);
    },
    async stopSlice(name, signal) {
      const stopped = await call(
        'StopUnit',
        [
          { type: 's', value: name },
          { type: 's', value: 'replace' },
        ],
        signal,
      );
      if (stopped.error !== undefined && stopped.error !== NO_SUCH_UNIT) {
        throw refused('stop', name, stopped);
      }
    },
  };
}

const MANAGER = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
} as const;
const UNIT_EXISTS = 'org.freedesktop.systemd1.UnitExists';
const NO_SUCH_UNIT = 'org.freedesktop.systemd1.NoSuchUnit';

function refused(action: string, name: string, reply: { error?: string; text?: string }): Failure {
  const code = reply.error?.endsWith('AccessDenied') === true ? 'PermissionDenied' : 'Unknown';
  return new Failure(code, `systemd won't ${action} ${name}: ${reply.text ?? ''} (${reply.error})`);
}

/** What a slice is started with. */
export function sliceProperties(name: string, settings: Settings): readonly Property[] {
  const on: Argument = { type: 'b', value: true };
  return [
    ['Description', { type: 's', value: `limpet: ${name}` }],
    // A slice lies in the one that its name begins with; this makes sure that that one is there.
    ['Wants', { type: 'as', value: [parentSlice(name)] }],
    ['DefaultDependencies', { type: 'b', value: false }],
    ['MemoryAccounting', on],
    ['CPUAccounting', on],
    ['IOAccounting', on],
    ['TasksAccounting', on],
    ...settingProperties(settings),
  ];
}

/** `kubepods.slice` for `kubepods-burstable.slice`, and `-.slice` at the top. */
export function parentSlice(name: string): string {
  const dash = name.lastIndexOf('-');
  return dash < 0 ? '-.slice' : `${name.slice(0, dash)}.slice`;
}

/** The same settings that are written to the files, or a reload of systemd would undo those. */
export function settingProperties(settings: Settings): readonly Property[] {
  const { cpuWeight, cpuQuotaUs, cpuPeriodUs, memoryMaxBytes, pidsMax } = settings;
  const properties: Property[] = [];
  const number = (name: string, value: bigint) =>
    properties.push([name, { type: 't', value }] as const);
  if (cpuWeight !== undefined) number('CPUWeight', BigInt(cpuWeight));
  if (cpuQuotaUs !== undefined && cpuPeriodUs !== undefined) {
    number('CPUQuotaPeriodUSec', BigInt(cpuPeriodUs));
    // Per second, and in whole percents of it: rounded up, the file has the exact one.
    const perSecondUs = (BigInt(cpuQuotaUs) * 1_000_000n) / BigInt(cpuPeriodUs);
    number('CPUQuotaPerSecUSec', ((perSecondUs + 9_999n) / 10_000n) * 10_000n);
  }
  if (memoryMaxBytes !== undefined) number('MemoryMax', BigInt(memoryMaxBytes));
  if (pidsMax !== undefined) number('TasksMax', BigInt(pidsMax));
  return properties;
}
