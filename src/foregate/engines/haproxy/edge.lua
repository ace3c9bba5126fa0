-- What HAProxy's rules cannot say: asking the agent for an assertion, the normal form of an odd path, reading
-- credentials out of one JSON header, and whether a body ends with trailers.
-- Loaded once per thread; the argument is the path of the agent's socket. Nothing here decides: a missing answer is
-- refused by the rules.
--
-- The agent's protocol, over a unix stream socket: one line of JSON each way, then the agent closes.
--   {"app":"<id>","client_id":"<id>","policy":"<id>","session":<seconds>,"tag":"<tag>","hot":"<key>"}
--   {"assertion":"<jwt>","refresh_at":<unix seconds>}
-- "hot" is the key of the hot entry that the agent may add for next time, "tag" the secret (see maps.py) that it is for.
--   {"metadata":true,"app":"<id>","host":"<host>"}
--   {"assertion":"<jwt>"}
-- Any other answer, or none: asked again, for eight seconds in all. A whole home that starts anew on a busy machine may
-- need five until its agent is there; many clients wait no longer than ten.

local agent = ...
local PATIENCE_MS = 8000
local EVERY_MS = 100

-- See overlay_text in maps.py.
local overlay = Map.new(os.getenv("FOREGATE_MAPS") .. "/overlay.map", Map._str)
if not overlay:lookup("end") then
  error("overlay.map is not whole")
end

local function ask_once(line)
  local socket = core.tcp()
  socket:settimeout(2)
  if not socket:connect(agent) then
    return nil
  end
  local answer
  if socket:send(line) then
    answer = socket:receive("*l")
  end
  socket:close()
  return answer
end

local function ask(line)
  local spent = 0
  repeat
    local answer = ask_once(line)
    local assertion = answer and answer:match('"assertion"%s*:%s*"([%w%-_%.]+)"')
    if assertion then
      return assertion, answer:match('"refresh_at"%s*:%s*(%d+)')
    end
    core.msleep(EVERY_MS)
    spent = spent + EVERY_MS
  until spent >= PATIENCE_MS
  return nil
end

-- Every value is an id, a number, base64 or a host that the rules have checked: none needs escaping.
core.register_action("foregate_assertion", { "http-req" }, function(txn)
  local line = string.format(
    '{"app":"%s","client_id":"%s","policy":"%s","session":%s,"tag":"%s","hot":"%s"}\n',
    txn:get_var("txn.app"):match("^[^.]*"), txn:get_var("txn.client"), txn:get_var("txn.pol"),
    txn:get_var("txn.session"), txn:get_var("txn.tag"), txn:get_var("txn.hk"))
  local assertion, refresh_at = ask(line)
  if assertion and refresh_at then
    txn:set_var("txn.jwt", assertion)
    txn:set_var("txn.until", math.min(tonumber(txn:get_var("txn.until")), tonumber(refresh_at)))
  end
end)

core.register_action("foregate_metadata", { "http-req" }, function(txn)
  local line = string.format('{"metadata":true,"app":"%s","host":"%s"}\n',
    txn:get_var("txn.app"):match("^[^.]*"), txn:get_var("txn.host"))
  local assertion = ask(line)
  if assertion then
    txn:set_var("txn.jwt", assertion)
  end
end)

-- The normal form of a path (core/targets.py, normalise_path), empty where it must be refused. HAProxy's own normalize-uri
-- would change the query as well, and leave the path alone where the query is malformed.

local function is_refused(path)
  return not path:find("^/") or path:find("[^!-~]") or path:find("[\\#?]") or path:gsub("%%%x%x", ""):find("%", 1, true)
    or path:find("%%2[Ff]") or path:find("%%5[Cc]") or path:find("%%00")
end

local function decode(escape)
  local character = string.char(tonumber(escape:sub(2), 16))
  return character:find("^[%w%-._~]") and character or escape:upper()
end

-- Why an origin was not reached. HAProxy has no word for a connection that was refused or timed out, as nothing went
-- wrong in it, and it chooses no server where a name is not resolved. (Not said by converters in the answer's format: on
-- an empty text HAProxy 2.8.25 crashes in `regsub`, and in `nbsrv` at that place.)
core.register_fetches("foregate_cause", function(txn)
  local said = txn.f:bc_err_str()
  if said and said ~= "" then
    return said
  elseif txn.f:bc_dst_port() then
    return "The connection was refused, or not accepted in time."
  end
  return "Its host name is not known."
end)

core.register_converters("foregate_path", function(path)
  if is_refused(path) then
    return ""
  end
  path = path:gsub("%%%x%x", decode):gsub("//+", "/")
  local kept, last = {}, ""
  for segment in path:gmatch("/([^/]*)") do
    last = segment
    if segment == ".." then
      kept[#kept] = nil
    elseif segment ~= "." then
      kept[#kept + 1] = segment
    end
  end
  -- A dot segment at the end leaves its slash: /a/b/.. is /a/.
  if last == "." or last == ".." then
    kept[#kept + 1] = ""
  end
  return "/" .. table.concat(kept, "/")
end)

-- One JSON object with two members, both strings (RFC 8259). Anything else gives empty texts, which no pair has.

local ESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function read_unit(text, at)
  local digits = text:match("^[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]", at)
  return digits and tonumber(digits, 16)
end

-- The character of a \u escape whose digits stand at `at`, and where it ends. A lone surrogate is no character.
local function read_escape(text, at)
  local unit = read_unit(text, at)
  if not unit or (unit >= 0xDC00 and unit <= 0xDFFF) then
    return nil
  end
  if unit < 0xD800 then
    return utf8.char(unit), at + 4
  end
  if unit > 0xDFFF then
    return utf8.char(unit), at + 4
  end
  local low = text:sub(at + 4, at + 5) == "\\u" and read_unit(text, at + 6)
  if not low or low < 0xDC00 or low > 0xDFFF then
    return nil
  end
  return utf8.char(0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00)), at + 10
end

local function read_string(text, at)
  if text:sub(at, at) ~= '"' then
    return nil
  end
  local parts = {}
  at = at + 1
  while true do
    local plain, after = text:match('^([^"\\%c]*)()', at)
    parts[#parts + 1] = plain
    -- %c holds DEL, which JSON takes as it is.
    if text:sub(after, after) == "\127" then
      parts[#parts + 1] = "\127"
      at = after + 1
    elseif text:sub(after, after) == '"' then
      return table.concat(parts), after + 1
    elseif text:sub(after, after + 1) == "\\u" then
      local character
      character, at = read_escape(text, after + 2)
      if not character then
        return nil
      end
      parts[#parts + 1] = character
    else
      local character = text:sub(after, after) == "\\" and ESCAPES[text:sub(after + 1, after + 1)]
      if not character then
        return nil
      end
      parts[#parts + 1] = character
      at = after + 2
    end
  end
end

local function skip(text, at)
  return text:match("^[ \t\r\n]*()", at)
end

local function read_member(text, at)
  local name, value
  name, at = read_string(text, at)
  if not name then
    return nil
  end
  at = skip(text, at)
  if text:sub(at, at) ~= ":" then
    return nil
  end
  value, at = read_string(text, skip(text, at + 1))
  if not value then
    return nil
  end
  return name:lower(), value, skip(text, at)
end

local function read_pair(text)
  if text:sub(1, 1) ~= "{" or not utf8.len(text) then
    return nil
  end
  local found, at = {}, skip(text, 2)
  for number = 1, 2 do
    local name, value
    name, value, at = read_member(text, at)
    if not name or found[name] or text:sub(at, at) ~= (number == 1 and "," or "}") then
      return nil
    end
    found[name] = value
    at = skip(text, at + 1)
  end
  if at <= #text then
    return nil
  end
  return found["cf-access-client-id"], found["cf-access-client-secret"]
end

core.register_converters("foregate_client_id", function(text)
  local id, secret = read_pair(text)
  return secret and id or ""
end)

core.register_converters("foregate_client_secret", function(text)
  local id, secret = read_pair(text)
  return id and secret or ""
end)

-- Refuses what ends with trailers: HAProxy 2.8 has no rule that sees or drops them, and Lua may count them only. What is
-- there besides the body's octets are trailers, and one more for their end. An error breaks the request off before they,
-- or the end of the body, have been sent.

local Trailers = { id = "foregate_trailers", flags = filter.FLT_CFG_FL_HTX }
Trailers.__index = Trailers

function Trailers:new()
  return setmetatable({}, Trailers)
end

function Trailers:start_analyze(_, channel)
  if not channel:is_resp() then
    filter.register_data_filter(self, channel)
  end
end

function Trailers:http_payload(_, message)
  local octets = message:body(0)
  if message:input() > (octets and #octets or 0) + 1 then
    error("a request with trailers")
  end
end

core.register_filter("foregate_trailers", Trailers, function(made)
  return made
end)
