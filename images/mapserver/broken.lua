-- A map or features whose database session broke get 503, which HAProxy asks of another server.
--
-- MapServer answers with an exception, by 200, 400 or 404, and in it says only that a query failed.
-- Why it failed stands in what it says on stderr, and that is in lighttpd's log before the answer
-- starts: so the log is a file, emptied here, and passed on to the container's log. An exception
-- is small and whole by now (one record of FastCGI); of anything larger the body is not looked at.
local LOG, WHOLE, SECONDS = "/run/gislab/log", 8192, 1
local BROKEN = { -- as libpq says it; a query that was wrong or too slow is none of these
    "Database connection failed", "connection gone bad", "No open connection",
    "server closed the connection", "connection has been closed", "terminating connection",
    "could not receive data", "could not send data", "no connection to the server",
    "conflict with recovery", "EOF detected",
    "msPostGISRetrieveVersion", -- the first query of each request, and none of its making
}

local function fresh()
    local file = io.open(LOG)
    local text = file and file:read("*a") or ""
    if file then file:close() end
    if text ~= "" then
        io.open(LOG, "w"):close()
        local container = io.open("/proc/1/fd/2", "a")
        if container then
            container:write(text)
            container:close()
        end
    end
    -- it comes in pieces, each a line of lighttpd's
    return (text:gsub("\n[%d%-]+ [%d:]+: %(mod_fastcgi[^)]*%) FastCGI%-stderr:", ""))
end

-- Is this how MapServer says that a query failed?
local function failed()
    local r = lighty.r
    local kind, size = r.resp_header["Content-Type"] or "", r.resp_body.len
    if not size then return false end
    if kind:find("xml", 1, true) or kind:find("json", 1, true) then
        local body = size <= WHOLE and r.resp_body.get or ""
        return body:find("msPostGIS", 1, true) or body:find("query failed", 1, true) -- OGC API
    end
    -- or a picture of it, if the client wants that and it is whole
    local query = (r.req_attr["uri.query"] or ""):lower()
    return query:find("exceptions=[^&]*inimage") or query:find("exceptions=[^&]*blank")
end

-- Two processes write one log: what was read with the answer to somebody else's question, which
-- did not fail, is kept for a second for the one that did.
local said, now, broke = fresh(), os.time(), false
for _, words in ipairs(BROKEN) do
    broke = broke or said:find(words, 1, true) ~= nil
end
if broke then
    _G.kept, _G.kept_at = select(2, said:gsub("Query error", "")), now
elseif said:find("msPostGIS", 1, true) or (_G.kept or 0) == 0 or now - _G.kept_at > SECONDS then
    return 0
end
if not failed() then return 0 end
_G.kept = _G.kept - 1
return 503
