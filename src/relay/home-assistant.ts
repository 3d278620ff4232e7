/**
 * How a board appears in Home Assistant by itself: one retained discovery document for the device, and
 * one retained message (`ha`) with all that its entities show. In CBOR mode Home Assistant could read
 * nothing else; in JSON mode neither, since its templates see one message and a delta is none of
 * the whole. Source: home-assistant.io/integrations/mqtt, "device discovery";
 * homeassistant/components/mqtt/schemas.py, `DEVICE_DISCOVERY_SCHEMA`.
 */
import type { Condition, Ha, Met, NodeFacts, PodState, Switch } from './message.ts';
import { topicOf, type NodeName } from './topic.ts';

export type Discovery = {
  readonly topic: string;
  /** To be published retained, as JSON. An empty message there takes the board out again. */
  readonly config: Readonly<Record<string, unknown>>;
};

/** The default of Home Assistant's own setting. */
export const DISCOVERY_PREFIX = 'homeassistant';

const SWITCHES = {
  underVoltage: 'UnderVoltage',
  throttled: 'Throttled',
  storageWorn: 'StorageWorn',
  storageReadOnly: 'StorageReadOnly',
} as const;

type SwitchName = keyof typeof SWITCHES;

const PROBLEMS: Readonly<Record<SwitchName, string>> = {
  underVoltage: 'Under-voltage',
  throttled: 'Throttled',
  storageWorn: 'Storage worn',
  storageReadOnly: 'Storage read-only',
};

/** The discovery document of a node, by what its message `ha` has. */
export function discovery(name: NodeName, node: NodeFacts, ha: Ha): Discovery {
  const id = objectId(name);
  const sensors = {
    ...figure(ha.temperatureC, 'temperature', {
      name: 'Temperature',
      device_class: 'temperature',
      state_class: 'measurement',
      unit_of_measurement: '°C',
      value_template: '{{ value_json.temperatureC }}',
    }),
    ...figure(ha.voltageV, 'voltage', {
      name: 'Voltage',
      device_class: 'voltage',
      state_class: 'measurement',
      unit_of_measurement: 'V',
      value_template: '{{ value_json.voltageV }}',
    }),
    ...figure(ha.diskPercent, 'storage', {
      name: 'Storage used',
      state_class: 'measurement',
      unit_of_measurement: '%',
      icon: 'mdi:micro-sd',
      value_template: '{{ value_json.diskPercent }}',
    }),
    ...podSensors(),
    ...problems(ha),
  };
  const available = { availability: availability(name), state_topic: topicOf(name, 'ha'), qos: 1 };
  const components = Object.entries({
    ...Object.fromEntries(Object.entries(sensors).map(([key, c]) => [key, { ...c, ...available }])),
    connectivity: connectivity(name),
  }).map(([key, component]) => [key, { unique_id: `${id}_${key}`, ...component }]);
  return {
    topic: `${DISCOVERY_PREFIX}/device/${id}/config`,
    config: {
      device: deviceOf(id, name, node),
      origin: { name: 'limpet', sw_version: node.version },
      components: Object.fromEntries(components),
    },
  };
}

type Component = Readonly<Record<string, unknown>>;

function figure(
  value: number | undefined,
  key: string,
  rest: Component,
): Record<string, Component> {
  return value === undefined
    ? {}
    : { [key]: { platform: 'sensor', entity_category: 'diagnostic', ...rest } };
}

function podSensors(): Record<string, Component> {
  return {
    podsReady: {
      platform: 'sensor',
      name: 'Pods ready',
      state_class: 'measurement',
      icon: 'mdi:kubernetes',
      value_template: '{{ value_json.podsReady }}',
    },
    pods: {
      platform: 'sensor',
      name: 'Pods',
      state_class: 'measurement',
      icon: 'mdi:kubernetes',
      value_template: '{{ value_json.pods }}',
    },
  };
}

function problems(ha: Ha): Record<string, Component> {
  const known = (Object.keys(PROBLEMS) as SwitchName[]).filter((name) => ha[name] !== undefined);
  return Object.fromEntries(
    known.map((name) => [
      name,
      {
        platform: 'binary_sensor',
        name: PROBLEMS[name],
        device_class: 'problem',
        entity_category: 'diagnostic',
        value_template: `{{ value_json.${name} }}`,
      },
    ]),
  );
}

/** It has no availability: it is there to say that the board is not. */
function connectivity(name: NodeName): Component {
  return {
    platform: 'binary_sensor',
    name: 'Connectivity',
    device_class: 'connectivity',
    entity_category: 'diagnostic',
    state_topic: topicOf(name, 'state'),
    value_template: "{{ 'ON' if value_json.s == 'online' else 'OFF' }}",
    qos: 1,
  };
}

function availability(name: NodeName): readonly Component[] {
  return [
    {
      topic: topicOf(name, 'state'),
      value_template: "{{ 'online' if value_json.s == 'online' else 'offline' }}",
    },
  ];
}

function deviceOf(id: string, { node: name }: NodeName, node: NodeFacts): Component {
  const { model, serial, version, os } = node;
  return {
    identifiers: [id],
    name,
    ...(model?.startsWith('Raspberry Pi') === true && { manufacturer: 'Raspberry Pi' }),
    ...(model !== undefined && { model }),
    ...(serial !== undefined && { serial_number: serial }),
    sw_version: os === undefined ? `limpet ${version}` : `limpet ${version}, ${os}`,
  };
}

/**
 * The name of the device in its topic, where only letters, digits, "_" and "-" may be. What else a
 * name has is written as its number, so that two names never become one.
 */
function objectId({ fleet, node }: NodeName): string {
  const safe = (name: string) =>
    name.replace(/[^A-Za-z0-9-]/gu, (c) => `_${(c.codePointAt(0) ?? 0).toString(16)}_`);
  return `limpet_${safe(fleet)}__${safe(node)}`;
}

/** What Home Assistant is shown. A condition that is neither true nor false is left out. */
export function haOf(
  t: number,
  pods: readonly PodState[],
  conditions: readonly Condition[],
  met: Met | undefined,
): Ha {
  const { temperatureC, voltageV, diskPercent } = met ?? {};
  return {
    t,
    pods: pods.length,
    podsReady: pods.filter(isReady).length,
    ...(temperatureC !== undefined && { temperatureC }),
    ...(voltageV !== undefined && { voltageV }),
    ...(diskPercent !== undefined && { diskPercent }),
    ...Object.fromEntries(
      Object.entries(SWITCHES).flatMap(([name, type]) => {
        const on = switchOf(conditions.find((condition) => condition.type === type));
        return on === undefined ? [] : [[name, on]];
      }),
    ),
  };
}

/** It runs with all its containers ready, or has done its work. */
export function isReady({ phase, ready, containers }: PodState): boolean {
  return phase === 'Succeeded' || (phase === 'Running' && ready === containers);
}

function switchOf(condition: Condition | undefined): Switch | undefined {
  if (condition === undefined || condition.status === 'Unknown') return undefined;
  return condition.status === 'True' ? 'ON' : 'OFF';
}
